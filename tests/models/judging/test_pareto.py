"""The front, the budget, what is nearest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.judging.pareto import Budget, Figures, best, excess, front, is_inside, loss, nearest


def point(name: str, error: float, num_bytes: int, p50_ms: float = 1.0, rows: float = 1000.0) -> Figures:
    return Figures(
        name=name, error=error, num_bytes=num_bytes, latency_p50_ms=p50_ms, latency_p99_ms=2 * p50_ms,
        batch_p50_ms=p50_ms, batch_p99_ms=p50_ms, rows_per_second=rows,
    )  # fmt: skip


POINTS = [point("a", 1.0, 1000), point("b", 1.1, 100), point("c", 1.2, 500), point("d", 0.9, 5000, 3.0)]


def test_a_dominated_point_is_not_on_the_front() -> None:
    assert [one.name for one in front(POINTS)] == ["b", "a", "d"]


def test_latencies_within_the_noise_are_the_same() -> None:
    twins = [point("a", 1.0, 100, 1.02), point("b", 1.0, 101, 1.0)]
    assert [one.name for one in front(twins)] == ["a"]
    assert {one.name for one in front(twins, slack=0.15)} == {"a", "b"}, "unless they were timed beside other work"


coordinates = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1.0, 2.0, 4.0]))


@settings(max_examples=40)
@given(st.lists(coordinates, min_size=1, max_size=12))
def test_every_point_left_out_has_one_on_the_front_that_is_at_least_as_good(rows: list[tuple[int, int, float]]) -> None:
    points = [point(str(place), error, size, p50_ms) for place, (error, size, p50_ms) in enumerate(rows)]
    kept = front(points)
    assert kept
    for one in points:
        own = np.array([one.error, one.num_bytes, one.latency_p50_ms])
        assert any((np.array([k.error, k.num_bytes, k.latency_p50_ms]) <= own).all() for k in kept)


def test_the_least_error_inside_the_budget_wins_then_the_fewest_bytes() -> None:
    losses = {one.name: loss(one.error, 1.0, "MAE") for one in POINTS}
    assert best(POINTS, Budget(bytes=1000, max_loss=0.15), losses) == POINTS[0]
    assert best(POINTS, Budget(bytes=999, max_loss=0.15), losses) == POINTS[1]
    assert best(POINTS, Budget(bytes=999, max_loss=0.05), losses) is None
    tied = [point("large", 1.0, 200), point("small", 1.0, 100)]
    chosen = best(tied, Budget(bytes=999), {"large": 0.0, "small": 0.0})
    assert chosen is not None
    assert chosen.name == "small"


def test_where_nothing_fits_the_nearest_says_what_it_missed() -> None:
    losses = {one.name: 0.0 for one in POINTS}
    found, missed = nearest(POINTS, Budget(bytes=80, latency_ms=1.0), losses)
    assert (found.name, missed) == ("b", ["bytes"])


def test_each_bound_is_held_against_its_own_figure() -> None:
    budget = Budget(latency_ms=0.5, latency_p99_ms=2.0, bytes=100, rows_per_second=500, max_loss=0.01)
    over = excess(point("a", 1.0, 200), budget, 0.03)
    assert over == pytest.approx(
        {"latency_ms": 1, "latency_p99_ms": 0, "bytes": 1, "rows_per_second": -0.5, "max_loss": 0.02}
    )
    assert not is_inside(over)


def test_a_loss_of_an_error_rate_is_counted_in_right_answers() -> None:
    assert loss(0.02, 0.01, "error rate") == pytest.approx(0.01 / 0.99)
    assert loss(2.02, 2.0, "MAE") == pytest.approx(0.01)
    assert loss(1.0, 2.0, "MAE") < 0
