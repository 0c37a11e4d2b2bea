"""Windows never cross a split or its gap, masks are true, and the scaler sees train alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.batches import batches, thin_out
from models.data.findings import BadDataError
from models.data.scaling import fit_scaler
from models.data.series import Series
from models.data.split import hide_labels, split_images, split_steps
from models.data.windows import clock, windows
from models.recipe import DataRecipe

PLANS = st.builds(
    DataRecipe,
    name=st.just("toy"),
    past_steps=st.integers(1, 12),
    horizon_steps=st.integers(1, 12),
    train_share=st.floats(0.3, 0.7),
    val_share=st.floats(0.1, 0.2),
    gap_steps=st.integers(0, 12),
)


def make_series(num_steps: int, missing_share: float, seed: int) -> Series:
    """Values equal their step number, so a batch tells where it was taken from."""
    rng = np.random.default_rng(seed)
    values = np.broadcast_to(np.arange(num_steps, dtype=np.float32)[:, None, None], (num_steps, 3, 2)).copy()
    values[rng.random(values.shape) < missing_share] = np.nan
    time = np.datetime64("2024-01-01", "us") + np.arange(num_steps) * np.timedelta64(15, "m")
    return Series(time, values, ("a", "b", "c"), ("x", "y"), ("km/h", "veh/h"), 15.0)


@settings(max_examples=40, deadline=None)
@given(PLANS, st.integers(300, 500), st.floats(0, 0.9), st.integers(0, 99))
def test_windows_stay_in_their_split_and_masks_are_right(
    plan: DataRecipe, num_steps: int, missing: float, seed: int
) -> None:
    series, splits = make_series(num_steps, missing, seed), split_steps(num_steps, plan)
    assert splits["train"][0] == 0
    assert splits["test"][1] == num_steps
    assert splits["val"][0] - splits["train"][1] == splits["test"][0] - splits["val"][1] == plan.gap_steps
    for start, stop in splits.values():
        samples = windows(series, (start, stop), plan.past_steps, plan.horizon_steps)
        for batch in batches(samples, 64):
            x, mask = batch.inputs["x"], batch.inputs["mask"]
            assert x.shape == mask.shape == (len(x), plan.past_steps, 3, 2)
            assert x.dtype == batch.target.dtype == np.float32
            for values, seen in ((x, mask), (batch.target, batch.target_mask)):
                assert not np.isnan(values).any()
                assert (values[seen == 0] == 0).all()
                assert ((values[seen == 1] >= start) & (values[seen == 1] < stop)).all()
            assert (batch.target_mask.sum(axis=(1, 2)) > 0).all()


def test_a_batch_holds_the_past_and_the_future_of_its_time() -> None:
    samples = windows(make_series(100, 0, 0), (10, 90), 4, 3)
    assert len(samples) == 80 - 7 + 1
    batch = samples.take(np.array([0, 73]))
    assert batch.inputs["x"][:, :, 0, 0].tolist() == [[10, 11, 12, 13], [83, 84, 85, 86]]
    assert batch.target[:, :, 0].tolist() == [[14, 15, 16], [87, 88, 89]]
    assert samples.times(np.array([0]))[0] == np.datetime64("2024-01-01T03:15")
    assert batch.inputs["clock"][0].tolist() == [13, 0]


def test_windows_without_anything_to_forecast_are_left_out() -> None:
    series = make_series(60, 0, 0)
    series.values[20:40, :, 0] = np.nan
    starts = windows(series, (0, 60), 4, 3).starts
    assert sorted(set(range(54)) - set(starts.tolist())) == list(range(16, 34))


def test_clock_counts_weeks_from_monday() -> None:
    time = np.array(["2024-01-07T23:45", "2024-01-08T00:00", "1969-12-31T12:00"], dtype="datetime64[us]")
    assert clock(time, 15).tolist() == [[95, 6], [0, 0], [48, 2]]


def test_too_short_a_series_says_how_many_steps_are_needed() -> None:
    plan = DataRecipe(name="toy")
    with pytest.raises(BadDataError, match="about 274 steps") as error:
        split_steps(240, plan)
    assert error.value.findings[0].got == "240 steps"
    assert split_steps(274, plan)
    with pytest.raises(BadDataError, match="below 1"):
        split_steps(240, DataRecipe(name="toy", train_share=0.9, val_share=0.1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(-1e3, 1e3))
def test_the_scaler_sees_train_only(seed: int, later: float) -> None:
    series, splits = make_series(400, 0.2, seed), split_steps(400, DataRecipe(name="toy"))
    before = fit_scaler(series.values[slice(*splits["train"])])
    series.values[splits["train"][1] :] = later
    assert fit_scaler(series.values[slice(*splits["train"])]) == before
    train = series.values[slice(*splits["train"]), :, 1].astype(np.float64)
    assert before.mean[1] == pytest.approx(np.nanmean(train))
    assert before.std[1] == pytest.approx(np.nanstd(train))


def test_a_channel_never_seen_or_never_varying_scales_by_one() -> None:
    values = np.full((10, 2, 2), np.nan, dtype=np.float32)
    values[..., 1] = 7
    assert fit_scaler(values).std == (1.0, 1.0)
    assert fit_scaler(values).mean == (0.0, 7.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(20, 60), min_size=2, max_size=4))
def test_images_are_shared_out_by_class(seed: int, sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order, splits = split_images(labels, DataRecipe(name="toy"), seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        counts = [(labels[order[start:stop]] == label).sum() for start, stop in splits.values()]
        assert abs(counts[0] - 0.7 * size) <= 1
        assert min(counts) > 0
    hidden = hide_labels(labels, 0.2, seed)
    assert ((hidden == labels) | (hidden == -1)).all()
    assert [(hidden == label).sum() for label in range(len(sizes))] == [round(0.2 * size) for size in sizes]


def test_thin_out_keeps_the_last() -> None:
    rows = np.arange(100)
    assert thin_out(rows, 5).tolist() == [0, 25, 50, 74, 99]
    assert thin_out(rows, 1).tolist() == [99]
    assert thin_out(rows, None) is rows
