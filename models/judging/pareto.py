"""Which of many compressed models to take: the front, the best inside a budget.

A point is dominated when another is at least as good in everything and better in something. What is left is the front:
what more bytes or milliseconds buy. Inside the budget the least validation error wins, then the fewest bytes.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from models.data.card import Frozen

OBJECTIVES = ("error", "num_bytes", "latency_p50_ms")
NEAR = 0.15  # a latency measured beside other work is believed to within this share
SAME = 0.05  # one measured side by side within this


class Figures(Frozen):
    """What is known of one point. Latencies are of one row; `batch_*` of 64 rows at once.

    error: judged, on validation
    """

    name: str
    error: float
    num_bytes: int
    latency_p50_ms: float
    latency_p99_ms: float
    batch_p50_ms: float
    batch_p99_ms: float
    rows_per_second: float


class Budget(Frozen):
    """What a compressed model may cost; None: no bound.

    latency_ms: median of one request (batch of 1) through the served predictor; `latency_p99_ms` its 99th percentile
    max_loss: share by which its judged error may exceed the teacher's; of a rate of errors, the share of right answers
        that may be lost (0.02: 98 % right instead of 100 %)
    """

    latency_ms: float | None = Field(None, gt=0)
    latency_p99_ms: float | None = Field(None, gt=0)
    bytes: int | None = Field(None, gt=0)
    rows_per_second: float | None = Field(None, gt=0)
    max_loss: float = Field(0.02, ge=0)


def is_rate(judged_name: str) -> bool:
    """Whether the judged error is a share of wrong answers."""
    return judged_name.endswith("rate")


def loss(error: float, teacher_error: float, judged_name: str) -> float:
    """What compressing cost, as `Budget.max_loss` counts it; below 0 the small model is the better one."""
    scale = 1 - teacher_error if is_rate(judged_name) else abs(teacher_error)
    return (error - teacher_error) / max(scale, 1e-12)


def excess(point: Figures, budget: Budget, lost: float) -> dict[str, float]:
    """By how much a point is over each bound, as a share of it; 0 or less is inside."""
    found = {
        "latency_ms": (point.latency_p50_ms, budget.latency_ms),
        "latency_p99_ms": (point.latency_p99_ms, budget.latency_p99_ms),
        "bytes": (point.num_bytes, budget.bytes),
    }
    over = {name: got / allowed - 1 for name, (got, allowed) in found.items() if allowed is not None}
    if budget.rows_per_second is not None:
        over["rows_per_second"] = budget.rows_per_second / max(point.rows_per_second, 1e-12) - 1
    return {**over, "max_loss": lost - budget.max_loss}


def is_inside(over: Mapping[str, float]) -> bool:
    """Whether every bound holds."""
    return all(share <= 0 for share in over.values())


def front(points: Sequence[Figures], slack: float = -SAME) -> list[Figures]:
    """Those that no other dominates in error, bytes and median latency, by bytes.

    slack: whoever dominates must be faster by this share; below 0, may be slower by it, a difference that is none
    """
    rows = {point.name: (point.error, point.num_bytes, point.latency_p50_ms) for point in points}
    kept = [
        point
        for point in points
        if not any(_dominates(rows[other], rows[point.name], slack) for other in rows if other != point.name)
    ]
    return sorted(kept, key=lambda point: (point.num_bytes, point.error, point.name))


def best(points: Sequence[Figures], budget: Budget, losses: Mapping[str, float]) -> Figures | None:
    """The least error, then the fewest bytes, of the points inside the budget; None where there is none."""
    inside = [point for point in points if is_inside(excess(point, budget, losses[point.name]))]
    return min(inside, key=lambda point: (point.error, point.num_bytes, point.name), default=None)


def nearest(points: Sequence[Figures], budget: Budget, losses: Mapping[str, float]) -> tuple[Figures, list[str]]:
    """The point whose worst excess is least, and the bounds that it misses. Raises ValueError without points."""
    over = {point.name: excess(point, budget, losses[point.name]) for point in points}
    found = min(points, key=lambda point: (max(over[point.name].values()), point.error, point.name))
    return found, [name for name, share in over[found.name].items() if share > 0]


def _dominates(a: tuple[float, float, float], b: tuple[float, float, float], slack: float) -> bool:
    is_as_fast = a[2] * (1 + slack) <= b[2]
    is_better = a[:2] != b[:2] or a[2] * (1 + abs(slack)) < b[2]
    return a[0] <= b[0] and a[1] <= b[1] and is_as_fast and is_better
