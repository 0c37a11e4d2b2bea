"""Does the main job on two products, up to an answered request.

One has real traffic counts, the other a simulated freeway.

Writes HOME/demo.json. A second run finds every step done and only asks the services again.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from flows import console
from flows.outcome import Outcome
from flows.package import answer, package_live, serving
from flows.run import run_lifecycle
from flows.show import show_outcome, show_prediction
from flows.workshop import Workshop, open_workshop
from infra import settings as environment
from infra.atomic import write_atomic
from infra.ports import free_port
from infra.ready import wait_for

PRODUCTS = {"freeway": "forecast/stid", "oregon_counts": "forecast/stid"}
READY_S, STOP_S = 60.0, 20.0


class NotServedError(RuntimeError):
    """A service did not become ready; the message holds what it said."""


def run_demo() -> dict[str, Any]:
    """Both products; returns what HOME/demo.json holds."""
    began = time.perf_counter()
    shop = open_workshop()
    seconds: dict[str, float] = {}
    outcomes = []
    for data, recipe in PRODUCTS.items():
        outcome = run_lifecycle(recipe, data)
        show_outcome(outcome)
        seconds |= {f"{data}.{step}": value for step, value in outcome.seconds.items()}
        outcomes.append(outcome)
    mark = time.perf_counter()
    predictions = ask_all(shop, [outcome for outcome in outcomes if outcome.model_version])
    seconds["serve"] = round(time.perf_counter() - mark, 3)
    seconds["total"] = round(time.perf_counter() - began, 3)
    record = {"products": [_product(outcome, predictions) for outcome in outcomes], "seconds": seconds}
    write_atomic(shop.home / "demo.json", json.dumps(record, indent=2, default=str).encode())
    console.say(f"\n{seconds['total']:.0f} s in all; written to {shop.home / 'demo.json'}")
    console.say("See every step: [bold].venv/bin/roadworthy up[/], then MLflow and Prefect in a browser.")
    return record


def ask_all(shop: Workshop, outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """Serve every product at once, ask each for its last held-back window, and stop them."""
    predictions = {}
    with served(shop, [outcome.product for outcome in outcomes]) as urls:
        for product, url in urls.items():
            predictions[product] = answer(shop, product, url=url)
            show_prediction(predictions[product])
    return predictions


@contextmanager
def served(shop: Workshop, products: list[str]) -> Iterator[dict[str, str]]:
    """The services of these products on free ports, ready; stopped at the end."""
    logs = shop.home / "run" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
    try:
        for product in products:
            port = free_port(shop.config.host)
            argv, extra = serving(shop, package_live(shop, product), shop.config.host, port)
            with (logs / f"demo-{product}.log").open("wb") as log:
                process = subprocess.Popen(
                    argv,
                    env=environment.child_environment(shop.config, **extra),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            running[product] = (process, f"http://{shop.config.host}:{port}")
        for product, (process, url) in running.items():
            if not wait_for(f"{url}/readyz", READY_S, partial(_runs, process)):
                said = (logs / f"demo-{product}.log").read_text()[-2000:]
                raise NotServedError(f"{product}: not ready; the end of what it said:\n{said}")
        yield {product: url for product, (_, url) in running.items()}
    finally:
        _stop([process for process, _ in running.values()])


def _runs(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is None


def _stop(processes: "list[subprocess.Popen[bytes]]") -> None:
    """End those that still run, politely and then by force; one that died by itself is no error here."""
    for process in processes:
        if _runs(process):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _product(outcome: Outcome, predictions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    kept = ("verdict", "promoted", "candidate", "sentence", "reasons", "convention", "metrics", "bytes", "latency_ms")
    more = ("rows_per_second", "model_version", "model_digest", "data_digest", "run_id", "bento")
    whole = outcome.model_dump(mode="json")
    return {
        "name": outcome.product,
        **{name: whole[name] for name in (*kept, *more)},
        "prediction": predictions.get(outcome.product),
    }
