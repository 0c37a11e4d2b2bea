"""Counts how often somebody asks: requests per minute of a key, wrong keys from an address.

Both keep a bounded number of names, the latest, so that strangers cannot grow this process.
"""

import ipaddress
import time
from collections.abc import Callable
from typing import NamedTuple

MAX_NAMES = 10_000
Clock = Callable[[], float]


class Quotas:
    """A token bucket per name: a whole minute's requests may come at once, then they come back evenly."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}  # requests left, and when; latest last

    def wait_s(self, name: str, per_minute: int) -> float:
        """Take one request: 0.0 where it may go, otherwise the seconds until one may, and nothing was taken."""
        now = self._clock()
        level, since = self._levels.pop(name, (float(per_minute), now))
        level = min(float(per_minute), level + (now - since) * per_minute / 60)
        is_free = level >= 1
        self._levels[name] = (level - 1 if is_free else level, now)
        if len(self._levels) > MAX_NAMES:
            del self._levels[next(iter(self._levels))]
        return 0.0 if is_free else (1 - level) * 60 / per_minute


class _Record(NamedTuple):
    """The failures since `start`, how often the address was shut out before, and until when it is."""

    num_failures: int
    start: float
    num_blocks: int
    blocked_until: float


class Strikes:
    """Wrong keys per address: after `allowed` in a minute it is shut out for a minute, then for two, four, an hour.

    A quiet hour is forgiven. An IPv6 address stands for its /64, which is what one customer gets.
    """

    WINDOW_S, FORGIVEN_S, LONGEST_S = 60.0, 3600.0, 3600.0

    def __init__(self, allowed: int = 10, clock: Clock = time.monotonic) -> None:
        self._allowed, self._clock = allowed, clock
        self._records: dict[str, _Record] = {}  # latest last

    def wait_s(self, address: str) -> float:
        """Seconds for which no unknown key of this address is looked at; 0.0: it is."""
        record = self._records.get(network(address))
        return max(0.0, record.blocked_until - self._clock()) if record else 0.0

    def failed(self, address: str) -> None:
        """Count one wrong key."""
        name, now = network(address), self._clock()
        record = self._records.pop(name, None)
        if record is None or now - max(record.start, record.blocked_until) > self.FORGIVEN_S:
            record = _Record(0, now, 0, 0.0)
        elif now - record.start > self.WINDOW_S:
            record = record._replace(num_failures=0, start=now)
        record = record._replace(num_failures=record.num_failures + 1)
        if record.num_failures >= self._allowed and record.blocked_until <= now:
            pause_s = min(self.WINDOW_S * 2**record.num_blocks, self.LONGEST_S)
            record = _Record(0, now, min(record.num_blocks + 1, 10), now + pause_s)
        self._records[name] = record
        if len(self._records) > MAX_NAMES:
            del self._records[next(iter(self._records))]


def network(address: str) -> str:
    """The address, or the /64 of an IPv6 one; anything else as it is."""
    if ":" not in address:
        return address
    try:  # the library says by raising that it is none
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def is_loopback(address: str) -> bool:
    """Whether only this machine can be behind an address or name: 127.0.0.0/8, ::1, localhost."""
    if address == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


class Proxies:
    """Who may say for whom it asks: this machine, and the addresses and networks that are named."""

    def __init__(self, named: str = "") -> None:
        """`named` is comma-separated; raises ValueError for one that is neither address nor network."""
        self._networks = [ipaddress.ip_network(one.strip(), strict=False) for one in named.split(",") if one.strip()]

    def believed(self, address: str) -> bool:
        """Whether `X-Forwarded-For` from there is taken for the truth."""
        if is_loopback(address):
            return True
        try:  # the library says by raising that it is none
            parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, address: str, forwarded: str) -> str:
        """Who asks: what the last proxy says, where it is believed; else who is at the other end."""
        if not forwarded or not self.believed(address):
            return address
        return forwarded.rpartition(",")[2].strip()[:64] or address
