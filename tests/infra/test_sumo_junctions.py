"""What a junction may show: no crossing greens, yellow in between, the least green kept."""

import numpy as np

from infra.sumo_junctions import MIN_GREEN_S, OBSERVED, PHASES, SERVED, STATES, YELLOW_S, Signals, yellow
from infra.sumo_rules import max_pressure, priority


def observation(**counts: float) -> np.ndarray:
    """One junction that shows north_south, with these counts."""
    values = {"shows_north_south": 1.0, "elapsed_s": 20.0} | counts
    return np.array([[values.get(name, 0.0) for name in OBSERVED]], np.float32)


def test_no_two_crossing_movements_have_the_right_of_way() -> None:
    for served in SERVED:
        sides = {movement // 2 for movement in np.flatnonzero(served)}
        assert len(sides) <= 2
        if len(sides) == 2:
            assert abs(min(sides) - max(sides)) == 2  # opposite sides
            assert len({movement % 2 for movement in np.flatnonzero(served)}) == 1  # both straight, or both left


def test_yellow_is_for_those_who_lose_green_and_nobody_gains_it_yet() -> None:
    before, after = PHASES["north_south"], PHASES["north"]
    lights = yellow(before, after)
    assert lights[:4] == "GGGg"  # north goes on, its left turns still give way
    assert lights[8:12] == "yyyy"
    assert lights[4:8] == lights[12:] == "rrrr"


def test_green_lasts_its_least_and_yellow_its_time() -> None:
    signals, wanted = Signals(), np.full(16, 2)
    for _ in range(MIN_GREEN_S - 1):
        signals.tick()
        assert signals.ask(wanted) == []
    signals.tick()
    changed = signals.ask(wanted)
    assert len(changed) == 16
    assert changed[0][1] == yellow(STATES[0], STATES[2])
    assert not signals.green.any()
    for _ in range(YELLOW_S - 1):
        assert signals.tick() == []
        assert signals.ask(np.zeros(16, np.int64)) == []  # too late to think better of it
    assert signals.tick()[0] == (0, STATES[2])
    assert not signals.free.any()


def test_max_pressure_serves_the_longest_queue_unless_its_exit_is_full() -> None:
    names = list(PHASES)
    queued = {"queue_east": 6.0, "queue_west": 5.0, "queue_north": 3.0}
    assert names[max_pressure(observation(**queued))[0]] == "east_west"
    full = queued | {"exit_queue_west": 20.0, "exit_queue_east": 20.0}
    assert names[max_pressure(observation(**full))[0]] != "east_west"


def test_the_priority_index_goes_on_with_what_it_serves_until_another_is_worth_the_change() -> None:
    weights = (1.0, 0.7, 0.4, 0.2, 0.1, 0.0, 0.5, 0.25, 0.3, 0.0, 0.0, 0.0, 5.0, 2.0, 0.35, 0.0, 0.5)
    names = list(PHASES)
    few = observation(queue_north=4.0, queue_south=4.0, queue_east=5.0, queue_west=4.0)
    many = observation(queue_north=1.0, queue_east=9.0, queue_west=8.0)
    assert names[priority(few, weights)[0]] == "north_south"
    assert names[priority(many, weights)[0]] == "east_west"
