"""A load generator in a process of its own: closed loop, or open loop without coordinated omission.

Closed loop: each client sends its next request when the last one is answered; this finds the throughput. Open loop:
requests are due at fixed times whatever the server does, and a latency counts from the time it was due, so that a stall
is seen by every request that it delayed (Tene, "How NOT to measure latency", 2013).

    python -m bench.load --url http://127.0.0.1:3000/predict --body request.json --clients 8 --seconds 5
    python -m bench.load --url http://127.0.0.1:3000/predict --body request.json --rate 2000 --clients 64 --seconds 5
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Client(asyncio.Protocol):
    """One keep-alive connection with one request in flight; knows of HTTP what it needs and no more."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._buffer = bytearray()
        self._missing = -1  # bytes of the body that are still to come; -1: the head is not whole
        self._status = 0
        self._began = 0.0
        self._transport: Any = None
        self.is_idle = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._run.connected(self)

    def send(self, due: float) -> None:
        """Send the request; its latency counts from `due`."""
        self._began, self.is_idle = due, False
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._missing < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._status = int(head[9:12])
            self._missing = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0) + end + 4
            self._run.has_retry_after |= b"retry-after:" in head
        if len(self._buffer) >= self._missing:
            self._buffer.clear()
            self._missing, self.is_idle = -1, True
            self._run.answered(self, self._status, time.perf_counter() - self._began)

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.lost(self, was_waiting=not self.is_idle)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


class Run:
    """One measurement; `latencies` in seconds."""

    def __init__(self, request: bytes, host: str, port: int, clients: int, seconds: float, rate: float) -> None:
        self.request, self._host, self._port = request, host, port
        self._num_clients, self._seconds, self._rate = clients, seconds, rate
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.has_retry_after = False
        self._clients: list[Client] = []
        self._idle: list[Client] = []
        self._due: list[float] = []
        self._ended = False

    async def __call__(self) -> dict[str, Any]:
        """Load for `seconds`, then say what came back."""
        loop = asyncio.get_running_loop()
        for _ in range(self._num_clients):
            await loop.create_connection(lambda: Client(self), self._host, self._port)
        began = time.perf_counter()
        if self._rate:
            await self._open_loop(began)
        else:
            for client in list(self._clients):
                client.send(time.perf_counter())
            await asyncio.sleep(self._seconds)
        spent = time.perf_counter() - began
        self._ended = True
        for client in list(self._clients):
            client.close()
        return self._report(spent)

    async def _open_loop(self, began: float) -> None:
        total, sent = int(self._rate * self._seconds), 0
        while sent < total:
            now = time.perf_counter()
            while sent < total and (due := began + sent / self._rate) <= now:
                sent += 1
                if self._idle:
                    self._idle.pop().send(due)
                else:
                    self._due.append(due)  # no connection is free: it waits, and its clock runs
            await asyncio.sleep(min(0.001, 1 / self._rate))
        deadline = time.perf_counter() + 5
        while len(self._idle) < len(self._clients) and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        self.statuses["never answered"] += len(self._due) + len(self._clients) - len(self._idle)

    def connected(self, client: Client) -> None:
        self._clients.append(client)
        self._idle.append(client)

    def answered(self, client: Client, status: int, latency: float) -> None:
        if self._ended:
            return
        self.statuses[str(status)] += 1
        if status == 200:
            self.latencies.append(latency)
        if not self._rate:
            client.send(time.perf_counter())
        elif self._due:
            client.send(self._due.pop(0))
        else:
            self._idle.append(client)

    def lost(self, client: Client, was_waiting: bool) -> None:
        self._clients.remove(client)
        if client in self._idle:
            self._idle.remove(client)
        if was_waiting and not self._ended:
            self.statuses["connection lost"] += 1
        if not self._ended:
            loop = asyncio.get_running_loop()
            self._again = loop.create_task(loop.create_connection(lambda: Client(self), self._host, self._port))

    def _report(self, spent: float) -> dict[str, Any]:
        ranked = sorted(self.latencies)
        found = {f"p{share:g}_ms": percentile(ranked, share) for share in PERCENTILES}
        return {
            "requests_per_s": len(ranked) / spent,
            **found,
            "statuses": {name: count for name, count in self.statuses.items() if count},
            "has_retry_after": self.has_retry_after,
        }


def percentile(ranked: list[float], share: float) -> float | None:
    """Milliseconds below which `share` percent of the ranked seconds lie; None where there are none."""
    return round(1000 * ranked[min(int(len(ranked) * share / 100), len(ranked) - 1)], 4) if ranked else None


def request_bytes(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The whole POST as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    """Measure once and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--header", action="append", default=["Content-Type: application/json"])
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests due in a second; 0: closed loop")
    options = parser.parse_args()
    headers = dict(line.split(": ", 1) for line in options.header)
    parts = urlsplit(options.url)
    request = request_bytes(options.url, options.body.read_bytes(), headers)
    run = Run(request, parts.hostname or "", parts.port or 80, options.clients, options.seconds, options.rate)
    sys.stdout.write(json.dumps(uvloop.run(run())) + "\n")


if __name__ == "__main__":
    main()
