"""What the router is told: backends, weights, shadow, canary guard; one JSON record.

The file is the only way to steer the router, so whoever wrote it last can die: the router goes on, and whoever comes
next reads where things stand.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIG, SOCKET = "router.json", "router.sock"  # in a deployment's folder


class RouterConfigError(ValueError):
    """The file is not a router's configuration; the message says where and why."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Backend(_Record):
    """One replica. Backends of one `group` answer alike (the same version); weights are shares, of any sum."""

    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://[^/]+$", description="scheme, host and port, no path")
    grpc: str = Field(default="", description="host:port, empty when it has none")
    group: str = Field(min_length=1)
    weight: float = Field(default=0.0, ge=0)


class Shadow(_Record):
    """A share of what other groups answer is asked of `group` too, and what it answers itself of the others."""

    group: str
    share: float = Field(default=1.0, gt=0, le=1)


class CanaryGuard(_Record):
    """When `group` is taken off the road. Everything is about the last `window_s` seconds, here and in the shadow.

    `back_to` is the group that takes its place where nobody else has a weight.
    """

    group: str
    back_to: str = ""
    max_error_share: float = Field(default=0.01, ge=0, le=1)
    max_latency_ratio: float = Field(default=2.0, ge=1, description="its p99 to that of the others")
    latency_slack_ms: float = Field(default=25.0, ge=0, description="and so much more at least: small times are noise")
    max_disagreement: float = Field(default=0.25, ge=0, le=1, description="mean of the differences, shares of scale")
    max_unready_s: float = Field(default=10.0, gt=0, description="so long may none of it be ready")
    window_s: float = Field(default=30.0, gt=0)
    min_requests: int = Field(default=20, ge=1, description="fewer prove nothing")


class RouterConfig(_Record):
    """The whole of it. `roll_out` names one attempt: what was taken off the road in it stays off until the next."""

    product: str = ""
    roll_out: str = ""
    backends: tuple[Backend, ...] = ()
    shadow: Shadow | None = None
    guard: CanaryGuard | None = None
    sticky_header: str = "x-client-id"
    max_body_bytes: int = Field(default=32_000_000, ge=1)
    try_timeout_s: float = Field(default=10.0, gt=0, description="a replica that takes longer is not waited for")
    wait_s: float = Field(default=15.0, ge=0, description="so long may a request wait for any replica to be ready")
    max_waiting: int = Field(default=512, ge=1, description="so many may wait at once; more are answered 503")

    @model_validator(mode="after")
    def _names(self) -> "RouterConfig":
        names = [one.name for one in self.backends]
        if len(set(names)) != len(names):
            raise ValueError(f"backends: expected each name once, got {', '.join(names)}")
        groups = {one.group for one in self.backends}
        for part in (self.shadow, self.guard):
            if part is not None and part.group not in groups:
                known = ", ".join(sorted(groups)) or "none"
                raise ValueError(f"{type(part).__name__}: expected a group of a backend ({known}), got {part.group!r}")
        return self


class Trip(_Record):
    """The router took a group off the road: in which attempt, when (ISO 8601, UTC) and why."""

    roll_out: str
    group: str
    reason: str
    time: str


def read_config(path: Path) -> RouterConfig:
    """The configuration in `path`; raises RouterConfigError."""
    try:
        return RouterConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RouterConfigError(f"{path}: expected a router's configuration, got {error}") from error


def trip_path(path: Path) -> Path:
    """Where the router keeps its trip: it must survive a kill, or the bad candidate would be back with the router."""
    return path.with_suffix(".trip.json")


def read_trip(path: Path, roll_out: str) -> Trip | None:
    """What was taken off the road in this attempt; None when nothing was."""
    try:
        trip = Trip.model_validate_json(trip_path(path).read_bytes())
    except (OSError, ValidationError):
        return None
    return trip if trip.roll_out == roll_out else None
