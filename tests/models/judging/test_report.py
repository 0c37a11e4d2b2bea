"""A report says of a parcel what a plain computation over all samples says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact.predictor import Predictor
from models.data.batches import Batch, Indices
from models.data.snapshot import Snapshot
from models.judging.measure import Cost, measure
from models.judging.report import CandidateReport, judge

PackToy = Callable[..., tuple[Path, Predictor]]
COST = Cost(num_parameters=1, num_bytes=1, latency_p50_ms=1, latency_p99_ms=1, rows_per_second=1)


def test_forecast_report_agrees_with_a_plain_computation(pack_toy: PackToy, toy_snapshot: Snapshot) -> None:
    _, predictor = pack_toy(bias=2.0)
    samples = toy_snapshot.windows("test")
    node_class = {"s1": "low", "s2": "low"}
    digest = toy_snapshot.manifest.digest
    judged = judge(predictor, samples, COST, split="test", data_digest=digest, node_class=node_class)
    report = judged.report
    batch = samples.take(np.arange(len(samples)))
    difference = (batch.inputs["x"][:, -1:, :, 0] + 2.0 - batch.target).astype(np.float64)
    seen = batch.target_mask > 0
    at_two = np.abs(difference[:, 1])[seen[:, 1]]

    assert report.judged.value == pytest.approx(at_two.mean()) == report.value("mae")
    assert report.judged.low < report.judged.value < report.judged.high
    assert (report.judged_step, report.judged_min, report.unit) == (2, 60, "km/h")
    assert report.value("mae", "pooled") == pytest.approx(np.abs(difference[seen]).mean())
    assert report.value("rmse", "pooled") == pytest.approx(np.sqrt((difference[seen] ** 2).mean()))
    assert report.value("wape", "pooled") == pytest.approx(np.abs(difference[seen]).sum() / batch.target[seen].sum())
    assert [item.minutes for item in report.per_horizon] == [30, 60, 90]
    assert report.per_horizon[2].rmse == pytest.approx(np.sqrt((difference[:, 2][seen[:, 2]] ** 2).mean()))

    hours = (samples.times(np.arange(len(samples))) + np.timedelta64(60, "m")).astype("datetime64[h]").astype(int) % 24
    by_kind = {kind: [item for item in report.slices if item.kind == kind] for kind in ("hour", "node_class")}
    at_seven = np.abs(difference[:, 1])[hours == 7][seen[:, 1][hours == 7]]
    assert by_kind["hour"][7].name == "07:00" and by_kind["hour"][7].error == pytest.approx(at_seven.mean())
    assert [item.name for item in by_kind["node_class"]] == ["low", "other"]
    assert by_kind["node_class"][1].error == pytest.approx(np.abs(difference[:, 1, 2])[seen[:, 1, 2]].mean())
    assert sum(item.num_values for item in by_kind["hour"]) == seen[:, 1].sum() == judged.errors.counts.sum()
    assert report.residual_low < 2.0 < report.residual_high
    assert CandidateReport.model_validate_json(report.model_dump_json()) == report
    assert report.flat()["mae_step_02"] == report.value("mae") == report.flat()["mae_at_horizon"]


def test_forecast_is_judged_on_windows_only(pack_toy: PackToy) -> None:
    with pytest.raises(TypeError, match="judged on windows"):
        judge(pack_toy()[1], FakeImages(), COST, split="test", data_digest="d")


class FakeImages:
    """Six images of three classes, one of them unlabelled; the pixel says which class the model will name."""

    target, mask = np.array([0, 0, 1, 1, 2, 0]), np.array([1, 1, 1, 1, 1, 0], np.float32)
    named = np.array([0, 1, 1, 1, 2, 2])

    def __len__(self) -> int:
        return len(self.target)

    def take(self, indices: Indices) -> Batch:
        return Batch({"x": np.eye(3, dtype=np.float32)[self.named[indices]]}, self.target[indices], self.mask[indices])


def test_classify_report_counts_labelled_images_only(pack_toy: PackToy, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = pack_toy()[1].manifest.model_copy(update={"task": "classify", "classes": ("a", "b", "c")})
    predictor = Predictor(manifest, 1, 0.0, 0.1, _Identity(), ("x",))
    judged = judge(predictor, FakeImages(), COST, split="test", data_digest="d")
    report = judged.report
    assert report.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 1))
    assert report.judged.value == pytest.approx(0.2) == report.value("error_rate") == 1 - report.value("accuracy")
    assert report.value("f1_macro") == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert [(item.name, item.error) for item in report.slices] == [("a", 0.5), ("b", 0), ("c", 0)]
    assert judged.errors.method == "strata" and judged.errors.groups.tolist() == [0, 0, 1, 1, 2]


class _Identity:
    """A session that answers its input."""

    def run(self, _: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [feed["x"]]


def test_cost_is_measured_on_real_samples(pack_toy: PackToy, toy_snapshot: Snapshot) -> None:
    _, predictor = pack_toy()
    cost = measure(predictor, toy_snapshot.samples("val"), num_repetitions=20, max_seconds=0.2)
    assert cost.latency_p50_ms > 0 and cost.latency_p99_ms > 0 and cost.rows_per_second > 0
    assert cost.num_bytes == predictor.num_bytes and cost.num_parameters == 1
