"""What happens above the capacity: found in a closed loop, then offered 0.8 and 2 times as an open loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contestants import Running

CLIENTS, FLOOD_CLIENTS = 64, 2000  # more than the service lets connect
SECONDS = 5.0


def overload(ours: Running, body: Path, load: Callable[..., Any]) -> dict[str, Any]:
    """Statuses and percentiles at both rates; below the capacity nothing may be refused."""
    capacity = load(ours.url, body, CLIENTS, SECONDS)["requests_per_s"]
    below = load(ours.url, body, CLIENTS, SECONDS, rate=0.8 * capacity)
    above = load(ours.url, body, FLOOD_CLIENTS, SECONDS, rate=2 * capacity)
    return {"capacity_requests_per_s": capacity, "at_80_percent": below, "at_200_percent": above}
