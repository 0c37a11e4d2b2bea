"""Steers a running router from another process: its file, its socket, its status."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.atomic import write_atomic
from services.router_config import CONFIG, SOCKET, RouterConfig


class RouterGoneError(RuntimeError):
    """The router does not answer, or it refused its configuration; the message says which."""


class RouterClient:
    """The router whose configuration and socket are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config_path = folder / CONFIG

    def write(self, config: RouterConfig) -> None:
        """Put the file in place; the router has it at its next start, or when it is told to read it."""
        write_atomic(self.config_path, config.model_dump_json(indent=1).encode(), mode=0o600)

    def apply(self, config: RouterConfig, patience_s: float = 10.0) -> dict[str, Any]:
        """Write the file and have it read now; returns the status afterwards.

        Raises RouterGoneError; the file is in place then, and a router that comes back reads it.
        """
        self.write(config)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self._ask("POST", "/router/reload")
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise RouterGoneError(f"{self._folder}: expected a running router, got {error}") from error
                time.sleep(0.1)

    def status(self) -> dict[str, Any] | None:
        """How things stand; None when nobody answers."""
        try:
            return self._ask("GET", "/router/status")
        except httpx.TransportError:
            return None

    def drain(self, names: set[str], timeout_s: float = 30.0) -> bool:
        """Wait until replicas that were taken out of the file, or have no weight, are done; whether they are."""
        deadline = time.monotonic() + timeout_s
        while (status := self.status()) is not None:
            busy = [one for one in (*status["backends"], *status["draining"]) if one["name"] in names]
            if not any(one["in_flight"] for one in busy):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True  # a router that is gone sends nobody anything

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        with self._client() as client:
            answer = client.request(method, path)
        record: dict[str, Any] = answer.json()
        if not answer.is_success:
            raise RouterGoneError(f"the router refused its configuration: {record.get('error', answer.status_code)}")
        return record

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        """Through the folder's descriptor: a socket's path may have 107 characters, a folder's more."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            transport = httpx.HTTPTransport(uds=f"/proc/self/fd/{descriptor}/{SOCKET}")
            with httpx.Client(transport=transport, base_url="http://router", timeout=10.0) as client:
                yield client
        finally:
            os.close(descriptor)
