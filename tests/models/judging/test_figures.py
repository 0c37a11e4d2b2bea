"""Pictures are drawn from real reports, each to a PNG of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot
from models.judging import figures
from models.judging.measure import Cost
from models.judging.report import CandidateReport, judge
from models.training.epoch import Epoch

PackToy = Callable[..., tuple[Path, Predictor]]


@pytest.fixture
def reports(pack_toy: PackToy, toy_snapshot: Snapshot) -> list[CandidateReport]:
    """Three candidates, two of them in the same place."""
    found = []
    for name, bias in (("last_value", 2.0), ("student", 0.0), ("student_int8", 0.01)):
        cost = Cost(num_parameters=1, num_bytes=5_000, latency_p50_ms=1, latency_p99_ms=1, rows_per_second=1)
        samples = toy_snapshot.samples("test")
        found.append(judge(pack_toy(name, bias)[1], samples, cost, split="test", data_digest="d").report)
    return found


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


def test_forecast_pictures(reports: list[CandidateReport], tmp_path: Path) -> None:
    time = np.datetime64("2024-01-01T00:00") + np.arange(48) * np.timedelta64(30, "m")
    values = np.random.default_rng(0).random((48, 2)).astype(np.float32)
    values[3] = np.nan
    assert is_picture(figures.tradeoff_figure(tmp_path / "new" / "tradeoff.png", reports, "student"))
    assert is_picture(figures.horizon_figure(tmp_path / "horizon.png", reports, "student"))
    assert is_picture(figures.hour_figure(tmp_path / "hour.png", reports, "student"))
    assert is_picture(figures.forecast_figure(tmp_path / "f.png", time, values, values + 1, ["s1", "s2"], reports[1]))


def test_confusion_and_learning_pictures(reports: list[CandidateReport], tmp_path: Path) -> None:
    changes = {"confusion": ((5, 1), (0, 4)), "classes": ("car", "lorry"), "convention": "pooled"}
    metrics = [metric.model_copy(update={"name": "accuracy"}) for metric in reports[0].metrics]
    report = reports[0].model_copy(update={**changes, "metrics": metrics})
    assert is_picture(figures.confusion_figure(tmp_path / "confusion.png", report))
    epochs = [Epoch(number, 1 / number, 1.1 / number, 1e-3, 1.0, True, 3) for number in (1, 2, 3)]
    assert is_picture(figures.learning_figure(tmp_path / "learning.png", {"student": epochs, "linear": epochs[:1]}))
