"""Captured traffic asked again of a candidate, at its original timing.

Requests leave when they are due, whether or not earlier ones were answered, and each is timed from the moment that it
was due: a candidate that falls behind shows it (Tene's coordinated omission is left out).
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from flows.capture import spools
from flows.deployed import LOOPBACK
from flows.live import live_model
from flows.local_key import key_header
from flows.options import UsageError
from flows.package import package_version, serving
from flows.registered import registered_version
from flows.workshop import Workshop, now
from infra import captures
from infra import settings as environment
from infra.ports import free_ports
from infra.ready import wait_for
from infra.refs import ModelRef
from infra.spool import Record
from services.copies import MARK
from services.router_diff import difference, read_numbers
from services.router_guard import quantile

DATATYPES = {"<f4": "FP32", "<f8": "FP64", "<i8": "INT64", "<i4": "INT32"}
READY_S, TIMEOUT_S, STOP_S = 60.0, 10.0, 15.0


@dataclass(frozen=True)
class Due:
    """A request that is due `at_s` after the first; `expected` are the numbers that it was answered, if known."""

    at_s: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    expected: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Limits:
    """Beyond these the candidate is refused."""

    max_error_share: float = 0.01
    max_p99_ms: float = 250.0
    max_disagreement: float = 0.25


@dataclass(frozen=True)
class Result:
    """How one request went: `status` 0 when there was no answer, `off` from 0 to 1 where there is something to hold."""

    status: int
    seconds: float
    off: float | None


def replay(
    shop: Workshop,
    product: str,
    version: int | None,
    file: Path | None,
    last_s: float,
    speed: float = 1.0,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Ask a registered version, in a process of its own, what was captured lately or is in `file`; the verdict on it.

    Raises UsageError when there is nothing to ask, or the version does not become ready.
    """
    ref = registered_version(shop, product, version)
    due = read_file(file) if file else captured(shop, product, last_s)
    with _running(shop, ref) as url:
        return judge(shop, url, due, speed, limits or Limits()) | {"product": product, "version": ref.version}


def judge(shop: Workshop, url: str, due: Sequence[Due], speed: float, limits: Limits) -> dict[str, Any]:
    """Errors, latency, disagreement of these requests at `url`; `reasons` why it is refused, none when it is not."""
    results = asyncio.run(_ask_all(url, due, speed, {**key_header(shop, url), MARK: "1"}))
    num_errors = sum(one.status == 0 or one.status >= 500 for one in results)
    offs = [one.off for one in results if one.off is not None]
    mean = sum(offs) / len(offs) if offs else 0.0
    p50, p99 = (1000 * quantile((one.seconds for one in results), share) for share in (0.5, 0.99))
    checks = (
        (num_errors > limits.max_error_share * len(results), f"{num_errors} of {len(results)} requests failed"),
        (p99 > limits.max_p99_ms, f"p99 is {p99:.1f} ms, allowed {limits.max_p99_ms:g} ms"),
        (
            mean > limits.max_disagreement,
            f"answers differ by {mean:.1%}, allowed {limits.max_disagreement:.1%} of scale",
        ),
    )
    return {
        "verdict": "refused" if any(broken for broken, _ in checks) else "passed",
        "reasons": [reason for broken, reason in checks if broken],
        "requests": len(results),
        "errors": num_errors,
        "refused_requests": sum(400 <= one.status < 500 for one in results),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "compared": len(offs),
        "disagreement": mean,
        "worst": max(offs, default=0.0),
        "seconds": round(due[-1].at_s / speed, 2),
    }


def gate(shop: Workshop, product: str, last_s: float, limits: Limits | None = None) -> Callable[[str], str]:
    """For a roll-out: asks the candidate at an address, and says why it is refused, or ""."""
    due = captured(shop, product, last_s)

    def ask(url: str) -> str:
        reasons = judge(shop, url, due, 1.0, limits or Limits())["reasons"]
        return f"replay: {'; '.join(reasons)}" if reasons else ""

    return ask


async def _ask_all(url: str, due: Sequence[Due], speed: float, headers: dict[str, str]) -> list[Result]:
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout, headers=headers) as session:
        began = loop.time() + 0.05
        tasks = []
        for one in due:
            await asyncio.sleep(max(0.0, began + one.at_s / speed - loop.time()))
            tasks.append(asyncio.create_task(_ask(session, one, began + one.at_s / speed)))
        return list(await asyncio.gather(*tasks))


async def _ask(session: aiohttp.ClientSession, due: Due, due_at: float) -> Result:
    loop = asyncio.get_running_loop()
    try:
        async with session.post(due.path, data=due.body, headers=due.headers) as answer:
            body = await answer.read()
            head_size = int(answer.headers.get("Inference-Header-Content-Length", 0))
    except (aiohttp.ClientError, OSError, TimeoutError):
        return Result(0, loop.time() - due_at, None)
    seconds = loop.time() - due_at
    if due.expected is None:
        return Result(answer.status, seconds, None)
    numbers = read_numbers(body, head_size) if answer.status == 200 else None
    return Result(answer.status, seconds, 1.0 if numbers is None else difference(due.expected, numbers))


def captured(shop: Workshop, product: str, last_s: float) -> list[Due]:
    """What the live version was asked in the last `last_s` seconds, spooled or shipped. UsageError for nothing."""
    until = now()
    since = until - timedelta(seconds=last_s)
    version = live_model(shop, product).version
    found = {one.prediction_id: one for one in captures.read(shop.store, product, since, until)}
    found |= {one.prediction_id: one for one in captures.spooled(spools(shop, product))}
    whole = [
        one for one in found.values()
        if one.version == version and not one.masked and captures.moment(one) >= since
    ]  # fmt: skip
    if not whole:
        raise UsageError(
            f"{product}: expected captured requests of version {version} in the last {last_s:g} s, got none"
        )
    first_us = min(one.time_us for one in whole)
    return [_due(one, (one.time_us - first_us) / 1e6) for one in sorted(whole, key=lambda one: one.time_us)]


def _due(record: Record, at_s: float) -> Due:
    """As an inference of protocol v2 with binary tensors: exactly the inputs that the graph was given."""
    inputs, binary = [], b""
    for name, tensor in record.inputs.items():
        data = tensor.data or b""
        size = {"binary_data_size": len(data)}
        datatype = DATATYPES[tensor.dtype]
        inputs.append({"name": name, "datatype": datatype, "shape": list(tensor.shape), "parameters": size})
        binary += data
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    expected = np.concatenate([one.array().astype(np.float64).ravel() for one in record.outputs.values()])
    return Due(at_s, f"/v2/models/{record.product}/infer", headers, head + binary, expected)


def read_file(file: Path) -> list[Due]:
    """JSON Lines: `time` (seconds or ISO 8601), `body` (a request), and `path`, `answer` where they are known.

    Raises UsageError naming the line.
    """
    lines = [line for line in file.read_text().splitlines() if line.strip()] if file.is_file() else []
    due = [_parsed(line, f"{file}: line {number}") for number, line in enumerate(lines, 1)]
    if not due:
        raise UsageError(f"--input {file}: expected one request a line, got none")
    first = min(one.at_s for one in due)
    return sorted((replace(one, at_s=one.at_s - first) for one in due), key=lambda one: one.at_s)


def _parsed(line: str, where: str) -> Due:
    try:
        record = json.loads(line)
        time_text = record["time"]
        at_s = datetime.fromisoformat(time_text).timestamp() if isinstance(time_text, str) else float(time_text)
        body = json.dumps(record["body"]).encode()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{where}: expected an object with `time` and `body`, got {line[:80]!r}") from error
    answer = record.get("answer")
    expected = read_numbers(json.dumps(answer).encode()) if answer else None
    return Due(at_s, record.get("path", "/predict"), {"Content-Type": "application/json"}, body, expected)


@contextmanager
def _running(shop: Workshop, ref: ModelRef) -> Iterator[str]:
    """The address of a process of its own that serves `ref` and captures nothing; stopped at the end."""
    (port,) = free_ports(1)
    argv, extra = serving(shop, package_version(shop, ref), LOOPBACK, port, is_open=True)
    extra["ROADWORTHY_SERVE_CAPTURE_SHARE"] = "0"
    log = shop.home / "run" / "logs" / f"replay-{ref.product}-{ref.version}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=environment.child_environment(shop.config, **extra), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://{LOOPBACK}:{port}"
    try:
        if not wait_for(f"{url}/readyz", READY_S, lambda: process.poll() is None):
            raise UsageError(f"{ref.product} version {ref.version}: not ready; it said:\n{log.read_text()[-1500:]}")
        yield url
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + STOP_S
    process.send_signal(signal.SIGTERM)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
