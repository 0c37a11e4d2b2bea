"""One look at a product: what was captured lately against what its model was trained on.

Neither Prefect nor MLflow is needed for it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from flows.capture import ship
from flows.live import live_model
from flows.monitor_captures import LiveSamples, captured_hours, captured_samples
from flows.monitor_reference import SampleReference, reference_of
from flows.workshop import Workshop
from infra.captures import CaptureError
from infra.objects import StorageError
from infra.refs import ModelRef
from models.judging.drift import Check, DriftReport, decided, share_of
from models.judging.drift_samples import check_errors, check_samples
from models.judging.drift_verdict import Live, Reference, judge_hours, mean_level

LEAST_HOURS = 6.0


@dataclass(frozen=True)
class Look:
    """What was found, and from what it can be drawn. `num_requests`: captured windows or samples."""

    live: ModelRef
    report: DriftReport
    since: datetime
    until: datetime
    num_requests: int
    reference: Reference | None = None
    tables: Live | None = None

    def figures(self) -> dict[str, float]:
        """Numbers for a tracker."""
        found = {"num_requests": float(self.num_requests), "hours": float(self.report.hours), **self.report.figures}
        for check in self.report.checks:
            found |= {f"{check.name}_score": check.score, f"{check.name}_threshold": check.threshold}
        levels = mean_level(self.tables.inputs) if self.tables else {}
        return {name: value for name, value in {**found, **levels}.items() if np.isfinite(value)}


def look_at(shop: Workshop, product: str, hours: float, until: datetime, alarms_per_year: float) -> Look:
    """Judge the captures of the last `hours`. Raises UsageError where nothing is live, NotThereError, StorageError."""
    live = live_model(shop, product)
    since = until - timedelta(hours=hours)
    _ship(shop, product)
    manifest, reference = reference_of(shop, live)
    if isinstance(reference, SampleReference):
        num, samples = captured_samples(shop, manifest, live, since, until)
        return Look(live, _judge_samples(reference, samples, alarms_per_year), since, until, num)
    num_hours = round(max(hours, LEAST_HOURS))
    num, tables = captured_hours(shop, manifest, live, since, until, num_hours)
    if tables is None:
        return Look(live, _nothing(reference, alarms_per_year), since, until, num)
    report = judge_hours(reference, tables, alarms_per_year, num_hours)
    return Look(live, report, since, until, num, reference, tables)


def _ship(shop: Workshop, product: str) -> None:
    """What services on this machine have ready; that it cannot be shipped now is the shipper's to say."""
    try:
        ship(shop, product)
    except (StorageError, CaptureError, OSError):
        return


def _nothing(reference: Reference, alarms_per_year: float) -> DriftReport:
    return DriftReport(
        status="too few requests", reasons=(), seasonality=reference.inputs.seasonality,
        reference_hours=len(reference.inputs.hours), alarms_per_year=alarms_per_year,
    )  # fmt: skip


def _judge_samples(reference: SampleReference, live: LiveSamples, alarms_per_year: float) -> DriftReport:
    share = share_of(alarms_per_year)
    checks: list[Check | None] = []
    figures: dict[str, float] = {}
    if live.inputs is not None:
        checks.append(
            check_samples("inputs", reference.input_names, reference.inputs, reference.groups, live.inputs, share)
        )
    if live.outputs is not None:
        checks.append(
            check_samples("forecasts", reference.output_names, reference.outputs, reference.groups, live.outputs, share)
        )
    if (found := check_errors(reference.errors, reference.error_groups, live.errors, share)) is not None:
        checks.append(found[0])
        figures = found[1]
    made = tuple(one for one in checks if one is not None)
    if not made:
        return DriftReport(status="too few requests", reasons=(), seasonality="none", alarms_per_year=alarms_per_year)
    status, reasons = decided(made)
    return DriftReport(
        status=status,
        reasons=reasons,
        checks=made,
        seasonality="none",
        figures=figures,
        alarms_per_year=alarms_per_year,
    )
