"""Thresholds under a budget; stationary weeks stay quiet, injected shifts are found; windows back into their place."""

from dataclasses import replace

import numpy as np
import pytest

import bench.drift as bench
from bench.drift_traffic import SLOTS, draw, series, simulate
from models.artifact.manifest import Manifest
from models.judging.drift import return_level
from models.judging.drift_hours import LEVEL, MISSING, Feature, Hours, reading_hours
from models.judging.drift_readings import Windows, last_step
from models.judging.drift_samples import check_errors, check_samples, distance, features_of
from models.judging.drift_seasonal import DAY, DAY_TYPE, WEEK, Seasonal
from models.judging.drift_verdict import Live, judge_hours
from tests.services.conftest import FORECAST

ALL = np.ones(24, np.bool_)
FACTS = {"product": "tiny", "variant": "linear", "data_digest": "d", "recipe_digest": "r", "code_commit": "c"}


def test_the_threshold_extrapolates_beyond_what_was_seen_and_the_budget_moves_it() -> None:
    maxima = np.random.default_rng(1).gumbel(3, 0.5, 200)
    levels = [return_level(maxima, budget) for budget in (12.0, 2.0, 0.5)]
    assert levels == sorted(levels)
    assert levels[1] > np.sort(maxima)[-2]
    fresh = np.random.default_rng(2).gumbel(3, 0.5, 365 * 50)
    assert (fresh > levels[1]).sum() / 50 <= 2.0
    assert return_level(maxima[:4], 2.0) == np.inf


def test_three_stationary_months_stay_quiet_and_every_shift_is_found_in_the_stated_time() -> None:
    days = draw(28 + 84, seed=21)
    readings = simulate(days)
    reference, model = bench.reference_of(readings[:28])
    assert reference.inputs.seasonality == DAY_TYPE
    live = bench.tables(series(readings[28:], 28), model)
    assert len(bench.alarms(bench.breaches(reference, live, 2.0))) <= 1
    random = np.random.default_rng(4)
    for kind, stated_h in bench.STATED_H.items():
        hours = [bench.hours_to_find(kind, days, readings, reference, model, random, 2.0) for _ in range(2)]
        assert all(one is not None and one <= stated_h for one in hours), (kind, hours)


def test_the_report_names_the_dead_sensor_and_short_references_pool() -> None:
    readings = simulate(draw(16, seed=3))
    reference, model = bench.reference_of(readings[:14])
    live = readings[14:].copy()
    live[1, 40:, 2] = np.nan
    report = judge_hours(reference, bench.tables(series(live, 14), model), 2.0)
    assert report.status == "retraining needed"
    shift = next(one for one in report.checks if one.name == "inputs").shifts[0]
    assert (shift.what, shift.place) == (MISSING, "km2.5")
    assert "share of missing readings" in report.reasons[0]
    assert Seasonal.fit(reading_hours(series(readings[:9]))).seasonality == DAY
    assert Seasonal.fit(reading_hours(series(np.tile(readings[:14], (3, 1, 1, 1))))).seasonality == WEEK


def test_few_hours_widen_the_threshold_and_none_is_too_few() -> None:
    readings = simulate(draw(30, seed=5))
    reference, model = bench.reference_of(readings[:28])
    known = reference.inputs
    night = np.arange(24) < 3
    whole, part = (known.calibrate(one, 1.0, one_sided=False) for one in (ALL, night))
    assert np.median(part.sd) > np.median(whole.sd)
    live = bench.tables(series(readings[28:], 28), model)
    hardly = replace(
        live.inputs, values=np.where(np.arange(len(live.inputs))[:, None] < 47, np.nan, live.inputs.values)
    )
    assert judge_hours(reference, Live(hardly), 2.0).status == "too few requests"


def test_a_reference_of_four_days_decides_nothing() -> None:
    readings = simulate(draw(6, seed=6))
    seasonal = Seasonal.fit(reading_hours(series(readings[:4])))
    assert seasonal.calibrate(ALL, 1.0, one_sided=False).threshold == np.inf


@pytest.mark.parametrize("hours_off", [0, -11, 13])
def test_a_window_finds_its_week_whatever_the_zone(hours_off: int) -> None:
    time = np.datetime64("2024-06-05T23:45", "us")  # a Wednesday
    answered = time + np.timedelta64(hours_off, "h")
    assert last_step(np.array([[95, 2]]), answered, 15.0)[0] == time
    assert last_step(np.array([[0, 3]]), answered, 15.0)[0] == time + np.timedelta64(15, "m")


def test_later_readings_are_the_truth_of_earlier_forecasts_and_contradictions_are_not() -> None:
    # nodes a, b, c; four readings of 15 min to two; judged at the first
    manifest = Manifest(**FORECAST, **FACTS, num_parameters=1, opset=20, files={})
    windows = Windows(manifest)
    start = np.datetime64("2024-06-05T10:00", "us")
    readings = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 3, 1), np.float32)
    for place in range(5):
        time = start + (place + 3) * np.timedelta64(15, "m")
        forecast = np.full((1, 2, 3), place + 4 + 0.5, np.float32)  # half above what comes
        windows.add(time[None], readings[None, place : place + 4], forecast)
    rebuilt, contradict = windows.series()
    assert np.array_equal(rebuilt.values, readings)
    assert not contradict.any()
    forecasts, error = windows.tables()
    assert forecasts is not None
    assert error is not None
    assert np.nanmax(np.abs(error.values - 0.5)) == 0
    other = readings[None, 4:].copy()
    other[0, -1, 0] = 50.0
    windows.add(np.array([start + 7 * np.timedelta64(15, "m")]), other, None)
    assert windows.series()[1][7, 0, 0]
    far = start + np.timedelta64(3, "D")  # somebody tried one out of another week
    tried = Windows(manifest, dict(windows.windows), dict(windows.forecasts))
    tried.add(far[None], readings[None, :4], None)
    assert len(tried.series()[0].time) > 200
    assert len(tried.until_now(24).series()[0].time) == 8
    assert not tried.asked()[100:200].any()
    told = windows.tables({(int((start + 8 * np.timedelta64(15, "m")).astype(np.int64)) // windows.cadence_us, 1): 9.5})
    assert told[1] is not None
    assert np.isclose(told[1].values.max(), 1.0)  # forecast 8.5, told 9.5


def test_hours_hold_level_change_and_missing() -> None:
    readings = simulate(draw(1, seed=1))
    readings[0, 4:8, 0, 0] = np.nan
    hours = reading_hours(series(readings))
    place = hours.features.index(Feature(LEVEL, "km0.5", "flow_vph"))
    missing = hours.features.index(Feature(MISSING, "km0.5", "flow_vph"))
    assert np.isnan(hours.values[1, place])
    assert hours.values[:3, missing].tolist() == [0.0, 1.0, 0.0]
    assert hours.values[2, place] == pytest.approx(readings[0, 8:12, 0, 0].mean(), rel=1e-6)
    assert isinstance(hours.between(hours.first + 1, hours.first + 3), Hours)
    assert len(hours.between(hours.first + 1, hours.first + 3)) == 2
    assert len(hours) == SLOTS // 4


def test_samples_without_a_time_are_held_against_groups_of_the_reference() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 20)
    drive = random.normal(0, 0.5, 60)[groups]
    reference = np.stack([random.normal(0, 1, 1200) + drive, random.normal(0, 1, 1200)], axis=1)
    names = (("x", "speed"), ("x", "gap"))
    same = np.stack([random.normal(0, 1, 400) + np.repeat(random.normal(0, 0.5, 20), 20), random.normal(0, 1, 400)], 1)
    quiet = check_samples("inputs", names, reference, groups, same, 1.0)
    assert quiet is not None
    assert not quiet.is_breached
    loud = check_samples("inputs", names, reference, groups, same + np.array([0.0, 1.5]), 1.0)
    assert loud is not None
    assert loud.is_breached
    assert loud.shifts[0].place == "gap"
    assert check_samples("inputs", names, reference, groups, same[:10], 1.0) is None
    worse = check_errors(np.abs(reference[:, 1]), groups, np.abs(same[:, 1]) * 1.6, 1.0)
    assert worse is not None
    assert worse[0].is_breached
    assert worse[1]["error_ratio"] == pytest.approx(1.6, rel=0.15)


def test_large_tensors_are_summarised_and_distances_are_between_nought_and_one() -> None:
    names, values = features_of({"x": np.ones((5, 1, 20, 20), np.float32), "y": np.zeros((5, 2))})
    assert [name for name, _ in names] == ["x", "x", "x", "y", "y"]
    assert values.shape == (5, 5)
    assert (distance(np.zeros(4), np.ones(4)), distance(np.arange(9.0), np.arange(9.0))) == (1.0, 0.0)
