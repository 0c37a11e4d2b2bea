"""The smallest candidate that is not worse than the best."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.judging.select import Candidate, Choice, bytes_text, choose, error_text

LINEAR = Candidate("linear", 3.56, 6_000, 0.1)
STID = Candidate("teacher", 3.55, 1_900_000, 0.4)
LAST = Candidate("last_value", 4.47, 1_000, 0.05)


def pick(*candidates: Candidate, tolerance: float = 0.01, max_bytes: int = 10**8, resolution: float = 0.0) -> Choice:
    return choose(
        candidates, tolerance=tolerance, max_bytes=max_bytes, max_latency_ms=50, unit="km/h", resolution=resolution
    )


def test_linear_model_that_ties_a_network_goes_on_the_road_and_the_sentence_says_so() -> None:
    choice = pick(LAST, STID, LINEAR)
    assert (choice.name, choice.best, choice.tied) == ("linear", "teacher", ("teacher", "linear"))
    assert choice.sentence == (
        "linear (MAE 3.56 km/h) ties teacher (3.55 km/h, within 1 %) and is the cheapest to serve "
        "(6 kB against 1.9 MB): linear goes on the road if it passes its gates."
    )


def test_network_that_wins_by_more_than_the_tolerance_is_chosen() -> None:
    choice = pick(LAST, STID, LINEAR, tolerance=0.001)
    assert choice.name == "teacher" and "no other is within 0.1 %" in choice.sentence


def test_best_that_is_also_the_cheapest() -> None:
    assert "the cheapest to serve (1 kB) of the 2 within 1 %" in pick(STID, Candidate("tiny", 3.55, 1_000, 1)).sentence


def test_equal_size_is_decided_by_latency() -> None:
    assert pick(Candidate("slow", 1, 100, 2), Candidate("quick", 1, 100, 1)).name == "quick"


def test_over_budget_is_named_and_the_rest_competes() -> None:
    choice = pick(LAST, STID, Candidate("linear", 3.9, 6_000, 0.1), max_bytes=100_000)
    assert choice.name == "linear" and choice.over_budget == ("teacher",)
    assert choice.sentence.endswith("Over budget: teacher (1.9 MB, allowed 100 kB).")
    slow = choose([Candidate("slow", 1, 1, 60)], tolerance=0, max_bytes=10, max_latency_ms=50)
    assert slow.name == "slow" and "Every candidate is over budget: slow (p99 60 ms, allowed 50 ms)" in slow.sentence


def test_difference_below_the_resolution_is_a_tie() -> None:
    """One image of 270 is no evidence."""
    best, small = Candidate("cnn", 4 / 270, 300_000, 1), Candidate("student", 5 / 270, 30_000, 1)
    assert pick(best, small).name == "cnn"
    assert pick(best, small, resolution=1.001 / 270).name == "student"


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        pick()


CANDIDATES = st.lists(
    st.builds(
        Candidate, st.text("abc", min_size=1, max_size=6), st.floats(0, 10), st.integers(1, 200), st.floats(0.01, 100)
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda item: item.name,
)


@settings(max_examples=60, deadline=None)
@given(candidates=CANDIDATES, tolerance=st.floats(0, 0.5))
def test_nothing_cheaper_inside_the_budget_is_as_good(candidates: list[Candidate], tolerance: float) -> None:
    choice = pick(*candidates, tolerance=tolerance, max_bytes=100)
    by_name = {item.name: item for item in candidates}
    chosen = by_name[choice.name]
    affordable = [item for item in candidates if item.name not in choice.over_budget] or candidates
    assert chosen in affordable and choice.name in choice.tied
    allowed = by_name[choice.best].error * (1 + tolerance)
    assert chosen.error <= allowed + 1e-12
    assert not [item for item in affordable if item.num_bytes < chosen.num_bytes and item.error < allowed - 1e-12]
    assert choice == pick(*reversed(candidates), tolerance=tolerance, max_bytes=100), "order does not matter"


def test_sizes_and_errors_read_well() -> None:
    assert [bytes_text(size) for size in (12, 6_040, 999_600, 1_900_000)] == ["12 B", "6.04 kB", "1 MB", "1.9 MB"]
    assert [error_text(3.5561, "MAE", "km/h"), error_text(0.0123, "error rate")] == ["3.56 km/h", "1.23 %"]
    assert error_text(0.00123, "MAE") == "0.00123"
