"""What a report says of a forecast and of its band, against a sum by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.artifact.intervals import LEVELS, level_of_service, quantiles
from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot
from models.judging import card, figures
from models.judging.measure import Cost
from models.judging.record import Judged
from models.judging.report import judge
from models.judging.select import Choice

PackToy = Callable[..., tuple[Path, Predictor]]
COST = Cost(num_parameters=1, num_bytes=1, latency_p50_ms=1, latency_p99_ms=1, rows_per_second=1)


def judged_under(protocol: str, pack_toy: PackToy, snapshot: Snapshot) -> tuple[Judged, Predictor]:
    _, predictor = pack_toy(protocol, bias=2.0)
    changed = Predictor(
        predictor.manifest.model_copy(update={"protocol": protocol}), 1, 0.0, 0.1, predictor._session, predictor._names
    )
    return judge(changed, snapshot.windows("test"), COST, split="test", data_digest="d"), changed


def test_tgcn_pools_the_steps_up_to_the_judged_one(pack_toy: PackToy, toy_snapshot: Snapshot) -> None:
    judged, predictor = judged_under("tgcn", pack_toy, toy_snapshot)
    windows = toy_snapshot.windows("test")
    batch = windows.take(np.arange(len(windows)))
    seen = batch.target_mask[:, :2] > 0  # judged at step 2 of 3
    error = (predictor.predict(batch.inputs)[:, :2] - batch.target[:, :2])[seen].astype(float)
    report = judged.report
    assert (report.protocol, report.convention, report.judged_step) == ("tgcn", "pooled", 2)
    assert report.judged.value == pytest.approx(np.abs(error).mean()) == report.value("mae")
    assert report.value("rmse") == pytest.approx(np.sqrt((error**2).mean()))
    assert judged.errors.counts.sum() == seen.sum()
    at_step, _ = judged_under("metr_la", pack_toy, toy_snapshot)
    assert (at_step.report.protocol, at_step.report.convention) == ("metr_la", "at-horizon")
    assert at_step.report.judged.value == at_step.report.per_horizon[1].mae


def test_the_protocol_is_named_on_the_card_and_in_the_pictures(
    pack_toy: PackToy, toy_snapshot: Snapshot, tmp_path: Path
) -> None:
    report = judged_under("tgcn", pack_toy, toy_snapshot)[0].report
    table = card.candidates_table([report], report.name)
    assert "MAE up to 60 min ahead, protocol tgcn, km/h" in table and "Protocol tgcn; figures are pooled" in table
    assert figures.horizon_figure(tmp_path / "h.png", [report], report.name).is_file()


def test_what_the_band_held_is_told_by_step_and_level(pack_toy: PackToy, toy_snapshot: Snapshot) -> None:
    judged, predictor = judged_under("default", pack_toy, toy_snapshot)
    windows, manifest = toy_snapshot.windows("test"), predictor.manifest
    batch = windows.take(np.arange(len(windows)))
    seen = batch.target_mask > 0
    forecast = predictor.predict(batch.inputs)
    ahead = quantiles(manifest, forecast)
    held = (ahead[:, 0] <= batch.target) & (batch.target <= ahead[:, -1])
    report = judged.report
    steps = [band for band in report.bands if band.kind == "step"]
    assert [band.name for band in steps] == ["30 min", "60 min", "90 min"] and steps[0].promised == pytest.approx(0.9)
    assert steps[2].coverage == pytest.approx(held[:, 2][seen[:, 2]].mean())
    assert steps[0].width == pytest.approx((ahead[:, -1] - ahead[:, 0])[:, 0][seen[:, 0]].mean(), rel=1e-5)
    assert report.value("coverage_90", "pooled") == pytest.approx(held[seen].mean())
    assert 0.8 < report.value("coverage_90", "pooled") < 0.97 and report.value("pinball", "pooled") > 0
    levels = {band.name: band for band in report.bands if band.kind == "level_of_service"}
    is_jammed = level_of_service(manifest, forecast[:, 1]) == LEVELS.index("jammed")
    assert levels["jammed"].num_values == (is_jammed & seen[:, 1]).sum()
    assert levels["jammed"].coverage == pytest.approx(held[:, 1][is_jammed & seen[:, 1]].mean())
    came = {item.name: item for item in report.slices if item.kind == "level_of_service"}
    assert sum(item.num_values for item in came.values()) == seen[:, 1].sum()
    was_free = (level_of_service(manifest, batch.target[:, 1]) == 0) & seen[:, 1]
    assert came["free"].error == pytest.approx(np.abs(forecast - batch.target)[:, 1][was_free].mean(), rel=1e-5)
    choice = Choice(name=report.name, sentence="", best="", tied=())
    assert "| 90% | forecast says jammed |" in card.band_table([report], choice.name)
