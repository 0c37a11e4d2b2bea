"""A load generator in a process of its own: closed loop, or open loop without coordinated omission.

Closed loop: each client sends its next request when the last one is answered; this finds the throughput. Open loop:
requests are due at fixed times whatever the server does, and a latency counts from the time it was due, so that a stall
is seen by every request that it delayed (Tene, "How NOT to measure latency", 2013).

    python -m bench.load --url http://127.0.0.1:3000/predict --body request.json --clients 8 --seconds 5
    python -m bench.load --url http://127.0.0.1:3000/predict --body request.json --rate 2000 --clients 64 --seconds 5
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SEND_BUFFER = 4_000_000  # a whole request fits, so that sending one does not keep the others waiting
PATIENCE_S = 5.0  # for what is still under way when an open loop has sent its last request


class Client:
    """One keep-alive connection with one request in flight; knows of HTTP what it needs and no more."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._buffer = b""
        self._num_bytes = 0  # of the whole answer; 0: its head is not there yet
        self.began = 0.0
        self.status = 0
        self.has_retry_after = False
        self.is_asking = False
        self.connect()

    def connect(self) -> None:
        """Connect, or connect again."""
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer, self._num_bytes = b"", 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send the request; its latency counts from `due`."""
        self.began, self.is_asking = due, True
        with suppress(OSError):  # a server that is full answers and hangs up before it is asked: that is there to read
            self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is there: whether the answer is whole. Raises ConnectionError when the server hung up."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("closed by the server")
        self._buffer = self._buffer + data if self._buffer else data
        if not self._num_bytes:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self._buffer[:end].lower()
            self.status = int(head[9:12])
            self.has_retry_after = b"retry-after:" in head
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._num_bytes = int(length or 0) + end + 4
        if len(self._buffer) < self._num_bytes:
            return False
        self._buffer, self._num_bytes = b"", 0
        return True


class Run:
    """One measurement; `latencies` in seconds."""

    def __init__(self, request: bytes, address: tuple[str, int], num_clients: int, seconds: float, rate: float) -> None:
        self._request, self._seconds, self._rate = request, seconds, rate
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.has_retry_after = False
        self._selector = selectors.DefaultSelector()
        self._idle = deque(Client(address) for _ in range(num_clients))
        for client in self._idle:
            self._selector.register(client, selectors.EVENT_READ)
        self._due: deque[float] = deque()

    def __call__(self) -> dict[str, Any]:
        """Load for `seconds`, then say what came back."""
        began = time.perf_counter()
        if self._rate:
            self._open_loop(began)
        else:
            self._closed_loop(began + self._seconds)
        return self._report(time.perf_counter() - began)

    def _closed_loop(self, end: float) -> None:
        for client in self._idle:
            client.send(self._request, time.perf_counter())
        while (now := time.perf_counter()) < end:
            for client in self._answered(end - now):
                client.send(self._request, time.perf_counter())

    def _open_loop(self, began: float) -> None:
        total, sent = int(self._rate * self._seconds), 0
        num_clients = len(self._idle)
        end = began + self._seconds + PATIENCE_S
        while (now := time.perf_counter()) < end:
            while sent < total and (due := began + sent / self._rate) <= now:
                sent += 1
                self._due.append(due)  # where no connection is free it waits, and its clock runs
            while self._due and self._idle:
                self._idle.popleft().send(self._request, self._due.popleft())
            if sent == total and len(self._idle) == num_clients:
                return
            wait = began + sent / self._rate - now if sent < total else 0.1
            self._idle += self._answered(max(wait, 0.0))
        self.statuses["never answered"] += len(self._due) + num_clients - len(self._idle)

    def _answered(self, timeout: float) -> list[Client]:
        """Clients that are free again."""
        free = []
        for key, _ in self._selector.select(timeout):
            client: Client = key.fileobj  # type: ignore[assignment]
            was_asking = client.is_asking
            try:
                if not client.receive():
                    continue
                if was_asking:
                    self._count(client)
            except OSError:
                if was_asking:
                    self.statuses["connection lost"] += 1
                self._selector.unregister(client)
                client.connect()
                self._selector.register(client, selectors.EVENT_READ)
            client.is_asking = False
            if was_asking:
                free.append(client)
        return free

    def _count(self, client: Client) -> None:
        self.statuses[str(client.status)] += 1
        self.has_retry_after |= client.has_retry_after
        if client.status == 200:
            self.latencies.append(time.perf_counter() - client.began)

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
    run = Run(request, (parts.hostname or "", parts.port or 80), options.clients, options.seconds, options.rate)
    sys.stdout.write(json.dumps(run()) + "\n")


if __name__ == "__main__":
    main()
