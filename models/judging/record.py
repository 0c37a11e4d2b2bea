"""Records what is known about a candidate.

The records are frozen, go to JSON and back, and give every figure with its convention.
"""

from dataclasses import dataclass

from models.data.card import Frozen, TaskName
from models.judging.bootstrap import Errors, Interval
from models.judging.measure import Cost


class Metric(Frozen):
    """One figure; `convention` is "pooled", "at-horizon" or "per-image"."""

    name: str
    value: float
    convention: str
    unit: str = ""


class StepMetrics(Frozen):
    """Errors at one step of the horizon, over all nodes."""

    step: int
    minutes: float
    mae: float
    rmse: float
    wape: float


class Band(Frozen):
    """What the band between the outer quantiles held, at a step or where a level of service was forecast.

    coverage: share of the actual values in it; promised: the share that it was calibrated to; pinball: mean over all
    quantiles; kind: "step" or "level_of_service"
    """

    kind: str
    name: str
    promised: float
    coverage: float
    width: float
    pinball: float
    num_values: int


class Slice(Frozen):
    """The judged error on a part: an hour of the day (of the target), a class of nodes or images, an outage."""

    kind: str
    name: str
    error: float
    num_values: int
    f1: float | None = None


class CandidateReport(Frozen):
    """Everything known about one candidate on one split; JSON both ways.

    judged: the error that decides, MAE at the judged step or the error rate, with its bootstrap interval
    residual_low, residual_high: 5 % and 95 % quantiles of (forecast - actual) at the judged step
    """

    name: str
    task: TaskName
    split: str
    parcel_digest: str
    trained_on: str
    judged_on: str
    num_samples: int
    judged_name: str
    judged: Interval
    convention: str
    unit: str = ""
    judged_step: int = 0
    judged_min: float = 0.0
    metrics: tuple[Metric, ...]
    per_horizon: tuple[StepMetrics, ...] = ()
    bands: tuple[Band, ...] = ()
    slices: tuple[Slice, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    residual_low: float = 0.0
    residual_high: float = 0.0
    cost: Cost
    golden_difference: float
    golden_tolerance: float
    protocol: str = "default"

    def value(self, name: str, convention: str = "") -> float:
        """A metric by name, in the report's own convention unless another is asked for; raises KeyError."""
        wanted = convention or self.convention
        known = {(metric.name, metric.convention): metric.value for metric in self.metrics}
        return known[(name, wanted)]

    def flat(self) -> dict[str, float]:
        """Figures by name for a tracker: `mae_at_horizon`, `rmse_pooled`, `mae_step_03`, `num_bytes`, …"""
        figures = {f"{item.name}_{item.convention.replace('-', '_')}": item.value for item in self.metrics}
        figures |= {f"mae_step_{item.step:02d}": item.mae for item in self.per_horizon}
        figures |= {"judged_low": self.judged.low, "judged_high": self.judged.high}
        return figures | {name: float(value) for name, value in self.cost.model_dump().items()}


def ahead_text(report: CandidateReport) -> str:
    """`15 min ahead`, or `up to 15 min ahead, protocol tgcn` where steps are pooled."""
    far = "up to " if report.convention == "pooled" else ""
    named = "" if report.protocol == "default" else f", protocol {report.protocol}"
    return f"{far}{report.judged_min:g} min ahead{named}"


@dataclass(frozen=True)
class Judged:
    """A report, and beside it the error of each sample, for paired comparison."""

    report: CandidateReport
    errors: Errors
