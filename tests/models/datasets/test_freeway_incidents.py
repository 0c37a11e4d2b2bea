"""Minutes of a run become samples: what is known of them, and what is left open."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.datasets import freeway_incidents as module

NUM_MINUTES, LEARNING = 120, module.NUM_TRAIN + module.NUM_VAL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test runs, one with an incident behind S05 from minute 30.25 to 42.5, one without; S09 sees nobody once."""
    target = tmp_path_factory.mktemp("simulated")
    grid = [(run, minute, name) for run in range(2) for minute in range(NUM_MINUTES) for name in module.STATIONS]
    frame = pl.DataFrame(grid, schema={"run": pl.Int32, "minute": pl.Int32, "station": pl.String}, orient="row")
    empty = (pl.col("run") == 0) & (pl.col("minute") == 50) & (pl.col("station") == "S09")
    speed = pl.when(~empty).then(pl.lit(90.0)).cast(pl.Float32)
    flow = pl.col("minute").cast(pl.Float32)
    frame = frame.with_columns(speed_kmh=speed, flow_vph=flow, occupancy_pct=pl.lit(8.0, pl.Float32))
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(target / module.TRAFFIC)
    row = {"run": 0, "incident": 4, "onset_min": 30.25, "cleared_min": 42.5, "segment": 4, "position_km": 2.4}
    pl.DataFrame([row | {"lanes_blocked": 1}]).write_parquet(target / module.INCIDENTS)
    return target


def test_test_runs_come_from_the_folder_and_last(folder: Path) -> None:
    raw = module.read(folder)
    assert raw.groups is not None
    assert np.unique(raw.groups).tolist() == [*range(LEARNING), 1000, 1001]
    assert raw.inputs["x"].shape == (106 * (LEARNING + 2), 15, 10, 3)
    first = raw.inputs["x"][raw.groups == 1000][0]
    assert first[:, 0, 1].tolist() == list(range(15))  # the flow tells the minute: oldest first, every station alike
    assert np.isnan(raw.inputs["x"][raw.groups == 1000]).sum() == 15  # one empty minute, in 15 windows


def test_a_blocked_segment_is_1_and_what_cannot_be_said_is_open(folder: Path) -> None:
    raw = module.read(folder)
    target, minute = raw.target[raw.groups == 1000], raw.facts["minute"][raw.groups == 1000]
    assert target[minute == 30].tolist() == [[0.0] * 10]
    assert np.flatnonzero(np.isnan(target[minute == 31][0])).tolist() == [3, 4, 5]  # the minute of the onset
    assert target[minute == 32][0, 4] == 1 and np.isnan(target[minute == 32][0, [3, 5]]).all()
    assert target[minute == 42][0, 4] == 1 and np.isnan(target[minute == 43][0, 4])
    assert np.isnan(target[minute == 47][0, 4]) and target[minute == 48].tolist() == [[0.0] * 10]
    assert (target == 1).sum() == 11
    assert (raw.facts["incident"][raw.groups == 1000] == np.where(minute > 30.25, 4, -1)).all()
    assert (raw.facts["incident"][raw.groups == 1001] == -1).all() and not raw.target[raw.groups == 1001].any()


def test_there_are_incidents_enough_to_learn_from_and_to_judge_by() -> None:
    raw = module.read(module.fetch()[0].parent)
    starts = {(int(run), int(one)) for run, one in zip(raw.groups, raw.facts["incident"], strict=True) if one >= 0}
    bounds = ((0, module.NUM_TRAIN), (module.NUM_TRAIN, LEARNING), (1000, 1000 + module.NUM_TEST))
    counts = [len([run for run, _ in starts if low <= run < high]) for low, high in bounds]
    assert counts[0] >= 60 and counts[1] >= 20 and counts[2] >= 20
    assert 0.005 < np.nanmean(raw.target) < 0.05
