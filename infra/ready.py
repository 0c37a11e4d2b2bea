"""Waiting for a server to answer, with a bound."""

import time
from collections.abc import Callable

import httpx

PAUSE_S = 0.1


def wait_for(url: str, timeout_s: float, is_wanted: Callable[[], bool] = lambda: True) -> bool:
    """Whether `url` answered 2xx within `timeout_s`; gives up at once when `is_wanted` says no, as when it died."""
    deadline = time.monotonic() + timeout_s
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        while time.monotonic() < deadline and is_wanted():
            try:
                if client.get(url).is_success:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(PAUSE_S)
    return False
