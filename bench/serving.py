"""How fast a promoted model answers, beside the ways in which other people would serve it, in one run, as ratios.

Every contestant serves the same student of `forecast/stid` on `freeway` in one worker. They run at the same time and
are loaded in turn, round after round, by a generator in a process of its own, so that noise meets all alike. The limit
is the ONNX graph in a loop in one process.

    .venv/bin/python -m bench.serving                    # about five minutes; trains the student once if HOME has none
    .venv/bin/python -m bench.serving --quick --json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from bench.contestants import Contestant, Model, Running, contestants, started
from bench.overload import overload
from bench.prepared import prepare
from bench.protocols import compare_protocols, share_of_limit
from flows.workshop import open_workshop

BATCHES = (1, 64)
CLIENTS = (1, 8, 64)
HEADLINE = (8, 1)  # clients and batch of `ratios`
NO_BATCH_UNDER_LOAD = 8  # 64 clients of 64 rows each measure queues and nothing else


def load(url: str, body: Path, clients: int, seconds: float, rate: float = 0.0, headers: Sequence[str] = ()) -> Any:
    """What `bench.load` reports, from a process of its own."""
    command = [sys.executable, "-m", "bench.load", "--url", url, "--body", str(body), "--clients", str(clients)]
    command += ["--seconds", str(seconds), "--rate", str(rate)]
    for header in headers:
        command += ["--header", header]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def cells(quick: bool) -> list[tuple[int, int]]:
    """(clients, batch) to measure."""
    if quick:
        return [(8, 1)]
    return [
        (clients, batch) for batch in BATCHES for clients in CLIENTS if batch == 1 or clients <= NO_BATCH_UNDER_LOAD
    ]


def onnx_limit(model: Model, rows: int, seconds: float) -> float:
    """Rows a second of the graph alone, called in a loop in this process on one thread."""
    from models.artifact import wire
    from models.artifact.manifest import read_and_verify
    from models.artifact.predictor import open_session

    session = open_session((model.parcel / "model.onnx").read_bytes())
    windows = [model.windows[index % len(model.windows)] for index in range(rows)]
    inputs = wire.parse_request(read_and_verify(model.parcel), json.dumps({"data": windows}).encode()).inputs
    feed = {item.name: np.ascontiguousarray(inputs[item.name]) for item in session.get_inputs()}
    session.run(None, feed)
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        session.run(None, feed)
        calls += 1
    return calls * rows / (time.perf_counter() - began)


def rounds(running: list[Running], model: Model, bodies: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One measurement after the other: every contestant in each cell of each round."""
    for number in range(options.rounds):
        for clients, batch in cells(options.quick):
            for one in running:
                body = bodies / f"{one.contestant.name}-{batch}.json"
                body.write_text(json.dumps(one.contestant.body(model, batch)))
                found = load(one.url, body, clients, options.seconds)
                note = f"{found['requests_per_s']:9.0f} requests/s, p99 {found['p99_ms']} ms"
                print(
                    f"round {number + 1}: {one.contestant.name:>20} c={clients:<2} b={batch:<2} {note}", file=sys.stderr
                )
                yield {
                    "round": number, "name": one.contestant.name, "clients": clients, "batch": batch,
                    "rows_per_s": batch * found["requests_per_s"], **found,
                }  # fmt: skip


def check_same(running: list[Running], model: Model) -> dict[str, float]:
    """Largest difference of each contestant's answer from ours, as a share of its scale: they serve the same model."""
    answers = {}
    for one in running:
        body = one.contestant.body(model, 1)
        record = httpx.post(one.url, json=body, timeout=30, trust_env=False).raise_for_status().json()
        found = record.get("predictions", record) if isinstance(record, dict) else record
        found = next(iter(found.values())) if isinstance(found, dict) else found
        answers[one.contestant.name] = np.array(found, float).ravel()
    ours = answers["roadworthy"]
    return {name: float(np.abs(each - ours).max() / np.abs(ours).max()) for name, each in answers.items()}


def ratios(rows: list[dict[str, Any]], clients: int, batch: int, figure: str) -> dict[str, float]:
    """Median over rounds of ours over theirs, paired within a round; of a latency theirs over ours."""
    chosen = [row for row in rows if (row["clients"], row["batch"]) == (clients, batch)]
    ours = {row["round"]: row[figure] for row in chosen if row["name"] == "roadworthy"}
    found: dict[str, float] = {}
    for name in dict.fromkeys(row["name"] for row in chosen if row["name"] != "roadworthy"):
        theirs = {row["round"]: row[figure] for row in chosen if row["name"] == name}
        pairs = [(ours[number], theirs[number]) for number in ours if ours[number] and theirs.get(number)]
        faster = [a / b if figure.endswith("_s") else b / a for a, b in pairs]
        found[name] = round(median(faster), 3) if faster else 0.0
    return found


def report(rows: list[dict[str, Any]], running: list[Running], same: dict[str, float]) -> dict[str, Any]:
    """The figures by name."""
    measured = sorted({(row["clients"], row["batch"]) for row in rows})
    place = (platform.machine(), platform.system(), f"Python {platform.python_version()}", f"{os.cpu_count()} cores")
    return {
        "machine": ", ".join(place),
        "ratios": ratios(rows, *HEADLINE, "requests_per_s"),
        "ratios_by_clients_and_batch": {f"c{c} b{b}": ratios(rows, c, b, "requests_per_s") for c, b in measured},
        "p99_ratios_by_clients_and_batch": {f"c{c} b{b}": ratios(rows, c, b, "p99_ms") for c, b in measured},
        "largest_difference_from_ours": same,
        "seconds_to_ready": {one.contestant.name: round(one.seconds_to_ready, 2) for one in running},
        "megabytes": {one.contestant.name: round(one.megabytes(), 1) for one in running},
        "raw": rows,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--only", nargs="*", help="names of the contestants to measure beside ours")
    parser.add_argument("--quick", action="store_true", help="8 clients, single rows, and no overload")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    shop = open_workshop()
    model = prepare(shop)
    chosen: list[Contestant] = [
        one
        for one in contestants(model, shop.home / "bench")
        if not options.only or one.name in ("roadworthy", *options.only)
    ]
    bodies = shop.home / "bench" / "bodies"
    bodies.mkdir(parents=True, exist_ok=True)
    logs = shop.home / "bench" / "logs"
    with started(chosen, logs) as running:
        same = check_same(running, model)
        result = report(list(rounds(running, model, bodies, options)), running, same)
    with started(chosen[:1], logs) as (ours,):  # the rest is about us alone
        measure = (options.seconds, options.rounds)
        result["share_of_onnx_limit_batch_64"] = share_of_limit(ours, model, onnx_limit, *measure)
        result["protocols_100_kB"] = compare_protocols(ours, model, *measure)
        if not options.quick:
            result["overload"] = overload(ours, bodies / "roadworthy-1.json", load)
    light = prepare(shop, "linear")
    with started(contestants(light, shop.home / "bench")[:1], logs) as (ours,):
        result["protocols_100_kB_linear"] = compare_protocols(ours, light, *measure)
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        show(result)


def show(result: dict[str, Any]) -> None:
    """For people."""
    for name, value in result.items():
        if name != "raw":
            print(f"{name}: {json.dumps(value, indent=2)}")


if __name__ == "__main__":
    main()
