"""What each group of replicas did lately, and whether the canary among them may stay.

Pure arithmetic over a window of samples: no clock of its own, no network.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.router_config import CanaryGuard

MAX_SAMPLES = 4096  # of a group; at more requests than these in a window, the latest stand for it
NUM_OUTLIERS = 2  # so many slow requests say nothing about a p99

Sample = tuple[float, float, bool]  # when (monotonic), how many seconds, whether it failed


@dataclass
class Tally:
    """One group: counts since the start, and the latest samples."""

    num_requests: int = 0
    num_errors: int = 0
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))

    def add(self, now: float, seconds: float, failed: bool) -> None:
        """Count one answer (or none, when the replica could not be reached)."""
        self.num_requests += 1
        self.num_errors += failed
        self.samples.append((now, seconds, failed))

    def since(self, start: float) -> list[Sample]:
        """The samples of the window."""
        return [sample for sample in self.samples if sample[0] >= start]


@dataclass
class Diffs:
    """What shadow copies were answered: counts since the start, the latest as (time, 0 to 1), and the worst."""

    num_compared: int = 0
    num_different_status: int = 0
    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    worst: float = 0.0
    worst_id: str = ""

    def add(self, now: float, off: float, same_status: bool, prediction_id: str) -> None:
        """Count one compared pair."""
        self.num_compared += 1
        self.num_different_status += not same_status
        self.samples.append((now, off))
        if off >= self.worst:
            self.worst, self.worst_id = off, prediction_id

    def mean(self, start: float = 0.0) -> tuple[float, int]:
        """Mean difference since `start`, and of how many."""
        values = [value for when, value in self.samples if when >= start]
        return (sum(values) / len(values) if values else 0.0), len(values)


def quantile(seconds: Iterable[float], share: float) -> float:
    """The value that `share` of these are at or below; 0 of none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Watch:
    """The tallies of all groups, and the judgement over one of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.tallies: dict[str, Tally] = {}
        self.diffs = Diffs()
        self._ready_at: float | None = None

    def begin(self) -> None:
        """A new attempt starts with an empty window; the counts since the start go on."""
        for tally in self.tallies.values():
            tally.samples.clear()
        self.diffs = Diffs()
        self._ready_at = None

    def answered(self, group: str, seconds: float, failed: bool) -> None:
        """Count one request that this group was asked."""
        self.tallies.setdefault(group, Tally()).add(self._clock(), seconds, failed)

    def compared(self, off: float, same_status: bool, prediction_id: str) -> None:
        """Count one shadow copy that was answered."""
        self.diffs.add(self._clock(), off, same_status, prediction_id)

    def breach(self, guard: CanaryGuard, is_ready: bool, waiting_s: Iterable[float] = ()) -> str:
        """Why `guard.group` must go, or "". `waiting_s`: how long its unanswered requests have been waiting."""
        now = self._clock()
        start = now - guard.window_s
        if is_ready or self._ready_at is None:
            self._ready_at = now
        if now - self._ready_at > guard.max_unready_s:
            return f"ready: {guard.group} has not been ready for {guard.max_unready_s:g} s"
        own = self.tallies.get(guard.group, Tally()).since(start)
        others = [s for name, tally in self.tallies.items() if name != guard.group for s in tally.since(start)]
        reason = _too_many_errors(guard, own, others) or _too_slow(guard, own, others, list(waiting_s))
        mean, num_pairs = self.diffs.mean(start)
        if not reason and num_pairs >= guard.min_requests and mean > guard.max_disagreement:
            reason = (
                f"disagreement: the answers of {guard.group} differ by {mean:.1%} of scale in the mean of {num_pairs}, "
                f"allowed {guard.max_disagreement:.1%}"
            )
        return reason


def _too_many_errors(guard: CanaryGuard, own: list[Sample], others: list[Sample]) -> str:
    """A request that breaks every version is not the canary's fault, so the others' share is allowed on top."""
    num_errors = sum(failed for _, _, failed in own)
    allowed = guard.max_error_share + sum(failed for _, _, failed in others) / max(1, len(others))
    if len(own) < guard.min_requests or num_errors <= max(1.0, allowed * len(own)):  # one error proves nothing
        return ""
    share = num_errors / len(own)
    return f"errors: {num_errors} of {len(own)} requests to {guard.group} failed ({share:.1%}), allowed {allowed:.1%}"


def _too_slow(guard: CanaryGuard, own: list[Sample], others: list[Sample], waiting_s: list[float]) -> str:
    """Requests that hang count with the time that they have taken so far: a replica that never answers is slow."""
    p99_of_others = quantile((seconds for _, seconds, _ in others), 0.99)
    limit = guard.max_latency_ratio * p99_of_others + guard.latency_slack_ms / 1000
    seconds = [seconds for _, seconds, _ in own] + [spent for spent in waiting_s if spent > limit]
    num_slow = sum(one > limit for one in seconds)
    is_enough = min(len(seconds), len(others)) >= guard.min_requests
    if not is_enough or num_slow <= max(NUM_OUTLIERS, 0.01 * len(seconds)):
        return ""
    return (
        f"latency: p99 of {guard.group} is {1000 * quantile(seconds, 0.99):.1f} ms, of the others "
        f"{1000 * p99_of_others:.1f} ms; allowed {1000 * limit:.1f} ms"
    )
