"""The smallest candidate that is not worse than the best goes to the gates."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.data.card import Frozen


@dataclass(frozen=True)
class Candidate:
    """What selection looks at: the judged error on validation and what serving costs."""

    name: str
    error: float
    num_bytes: int
    latency_p99_ms: float


class Choice(Frozen):
    """The chosen candidate, the sentence for the report, those that tied, and those over a budget."""

    name: str
    sentence: str
    best: str
    tied: tuple[str, ...]
    over_budget: tuple[str, ...] = ()


def choose(
    candidates: Sequence[Candidate],
    *,
    tolerance: float,
    max_bytes: int,
    max_latency_ms: float,
    metric: str = "MAE",
    unit: str = "",
    resolution: float = 0.0,
) -> Choice:
    """The cheapest to serve (bytes of model.onnx, then p99) of those within `tolerance` of the best and inside budgets.

    error: measured on validation. `resolution` is the smallest difference that the split can show, e.g. one image; a
    smaller one is a tie. Where nothing inside the budgets ties the best, the rule is applied to what is inside them;
    where nothing is inside, to all, and the gates will refuse it. Raises ValueError without candidates.
    """
    if not candidates:
        raise ValueError("nothing to choose from: no candidates")
    by_name = sorted(candidates, key=lambda item: item.name)
    over = {item.name: reason for item in by_name if (reason := _over(item, max_bytes, max_latency_ms))}
    affordable = [item for item in candidates if item.name not in over]
    best = min(candidates, key=_by_error)
    tied = _within(affordable, best, tolerance, resolution)
    if not tied:
        best = min(affordable or candidates, key=_by_error)
        tied = _within(affordable or candidates, best, tolerance, resolution)
    chosen = min(tied, key=lambda item: (item.num_bytes, item.latency_p99_ms, item.error, item.name))
    sentence = _sentence(chosen, best, len(tied), metric, unit, tolerance)
    if over:
        listed = "; ".join(f"{name} ({reason})" for name, reason in over.items())
        sentence += f" Over budget: {listed}." if affordable else f" Every candidate is over budget: {listed}."
    return Choice(
        name=chosen.name,
        sentence=sentence,
        best=best.name,
        tied=tuple(item.name for item in tied),
        over_budget=tuple(over),
    )


def bytes_text(num_bytes: int) -> str:
    """`6 kB`, `1.9 MB`."""
    if num_bytes < 1_000:
        return f"{num_bytes} B"
    return f"{num_bytes / 1e3:.3g} kB" if num_bytes < 999_500 else f"{num_bytes / 1e6:.3g} MB"


def error_text(value: float, metric: str, unit: str = "") -> str:
    """`3.56 km/h`, or `2.3 %` for a rate."""
    if metric == "error rate":
        return f"{100 * value:.2f} %"
    digits = f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def _sentence(chosen: Candidate, best: Candidate, num_tied: int, metric: str, unit: str, tolerance: float) -> str:
    share, size = f"{100 * tolerance:.3g} %", bytes_text(chosen.num_bytes)
    error = error_text(chosen.error, metric, unit)
    end = f"{chosen.name} goes on the road if it passes its gates."
    if chosen.name != best.name:
        others = f"{error_text(best.error, metric, unit)}, within {share}"
        sizes = f"{size} against {bytes_text(best.num_bytes)}"
        cheapest = f"is the cheapest to serve ({sizes})"
        return f"{chosen.name} ({metric} {error}) ties {best.name} ({others}) and {cheapest}: {end}"
    if num_tied > 1:
        company = f"and the cheapest to serve ({size}) of the {num_tied} within {share}"
        return f"{chosen.name} is the best on validation ({metric} {error}) {company}: {end}"
    return f"{chosen.name} is the best on validation ({metric} {error}, {size}) and no other is within {share}: {end}"


def _over(item: Candidate, max_bytes: int, max_latency_ms: float) -> str:
    """Which budget it breaks, with numbers; empty when none."""
    reasons = []
    if item.num_bytes > max_bytes:
        reasons.append(f"{bytes_text(item.num_bytes)}, allowed {bytes_text(max_bytes)}")
    if item.latency_p99_ms > max_latency_ms:
        reasons.append(f"p99 {item.latency_p99_ms:.3g} ms, allowed {max_latency_ms:g} ms")
    return " and ".join(reasons)


def _within(items: Sequence[Candidate], best: Candidate, tolerance: float, resolution: float) -> list[Candidate]:
    """Those whose error is at most the best one's plus the tolerance, the best first."""
    allowed = best.error + max(tolerance * best.error, resolution)
    return sorted((item for item in items if item.error <= allowed), key=_by_error)


def _by_error(item: Candidate) -> tuple[float, int, float, str]:
    return item.error, item.num_bytes, item.latency_p99_ms, item.name
