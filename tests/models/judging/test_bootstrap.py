"""Intervals hold the mean, differences are paired, and the same draws come every time."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.judging.bootstrap import Errors, compare, interval, time_blocks


def errors(values: np.ndarray, groups: np.ndarray | None = None, method: str = "blocks") -> Errors:
    groups = np.arange(len(values)) // 8 if groups is None else groups
    return Errors(values.astype(np.float64), np.ones(len(values)), groups, method)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), num_samples=st.integers(40, 400), method=st.sampled_from(["blocks", "strata"]))
def test_interval_is_ordered_and_repeatable(seed: int, num_samples: int, method: str) -> None:
    sample = errors(np.random.default_rng(seed).exponential(2.0, num_samples), method=method)
    first, second = (interval(sample, 0.95, 200) for _ in range(2))
    assert first == second and first.low <= first.high and first.value == pytest.approx(sample.mean)
    wider = interval(sample, 0.99, 200)
    assert wider.low <= first.low and first.high <= wider.high


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.floats(0.01, 5))
def test_shifted_errors_differ_by_the_shift_whatever_is_drawn(seed: int, shift: float) -> None:
    """Paired: what both share cancels, so a constant difference has no width."""
    base = np.random.default_rng(seed).exponential(2.0, 200)
    difference = compare(errors(base + shift), errors(base), 0.95, 200)
    assert difference.low == pytest.approx(shift) and difference.high == pytest.approx(shift)
    reverse = compare(errors(base), errors(base + shift), 0.95, 200)
    assert reverse.high == pytest.approx(-shift) and reverse.high < 0


def test_itself_is_neither_better_nor_worse() -> None:
    sample = errors(np.random.default_rng(1).random(100))
    difference = compare(sample, sample, 0.95, 200)
    assert difference.low == difference.value == difference.high == 0


def test_blocks_make_dependent_errors_less_sure() -> None:
    """Errors that stay alike for a whole block: single draws would be far too sure."""
    values = np.repeat(np.random.default_rng(2).exponential(1.0, 25), 8)
    blocks, singles = errors(values), errors(values, np.arange(200))
    widths = [found.high - found.low for found in (interval(blocks, 0.95, 400), interval(singles, 0.95, 400))]
    assert widths[0] > 1.8 * widths[1]


def test_strata_keep_the_share_of_each_class() -> None:
    """A class that is always wrong and one that is always right leave no doubt."""
    groups = np.repeat([0, 1], [30, 70])
    found = interval(errors((groups == 0).astype(float), groups, "strata"), 0.95, 200)
    assert (found.low, found.value, found.high) == (0.3, 0.3, 0.3)


def test_other_samples_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="not over the same samples"):
        compare(errors(np.zeros(10)), errors(np.zeros(11)), 0.95, 200)


def test_block_is_a_day_or_a_horizon_where_days_are_few() -> None:
    time = np.datetime64("2024-01-01T12:00") + np.arange(24 * 12) * np.timedelta64(1, "h")
    assert np.bincount(time_blocks(time, 6)).tolist() == [12] + [24] * 11 + [12]
    assert np.bincount(time_blocks(time[:60], 6)).tolist() == [6] * 10
    assert time_blocks(time[:5], 6).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["blocks", "strata"])
def test_errors_are_kept_in_a_plain_file(tmp_path: Path, method: str) -> None:
    sample = errors(np.random.default_rng(3).random(20), method=method)
    sample.save(tmp_path / "errors.npy")
    back = Errors.load(tmp_path / "errors.npy")
    assert back.method == method and np.array_equal(back.sums, sample.sums)
    assert np.array_equal(back.groups, sample.groups) and np.array_equal(back.counts, sample.counts)
