"""Closed-loop episodes on the signalised grid: real SUMO, a few minutes long."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from infra.sumo_grid import FILE, generate
from infra.sumo_grid_scenario import GridScenario, Trip
from infra.sumo_junctions import OBSERVED
from infra.sumo_plans import CONTROLLERS, controller, program
from infra.sumo_rules import max_pressure
from infra.sumo_signals import _cost, episode, recorded

SHORT = GridScenario(1, "moderate", minutes=3, drain_min=4)
TEACHER = (1.0, 0.7, 0.4, 0.2, 0.1, 0.0, 0.5, 0.25, 0.3, 0.0, 0.0, 0.0, 5.0, 2.0, 0.35, 0.0, 0.5)


class TwoTrips:
    """A scenario of three vehicles, for the arithmetic of the cost."""

    trips = tuple(Trip(number, 10.0 * number, ()) for number in range(3))


def test_cost_counts_the_wait_outside_those_under_way_and_those_who_never_came_in() -> None:
    record = (
        '<tripinfo id="0" depart="2.00" departDelay="2.00" arrival="90.00" timeLoss="20.00" vaporized=""/>'
        '<tripinfo id="1" depart="15.00" departDelay="5.00" arrival="-1.00" timeLoss="70.00" vaporized="end"/>'
    )
    cost = _cost(TwoTrips(), record, end_s=100.0)  # type: ignore[arg-type]
    assert cost.mean_time_loss_s == pytest.approx((22 + 75 + 80) / 3)
    assert (cost.num_vehicles, cost.num_left) == (3, 2)


@pytest.mark.sim
def test_the_same_seed_gives_the_same_loss_and_every_vehicle_is_counted() -> None:
    first, second = episode(SHORT, policy=max_pressure), episode(SHORT, policy=max_pressure)
    assert first == second
    assert first.num_vehicles == len(SHORT.trips)
    assert first.num_left == 0
    assert 5 < first.mean_time_loss_s < 60


@pytest.mark.sim
def test_a_policy_that_blocks_the_streets_loses_by_it() -> None:
    stubborn = episode(SHORT, policy=lambda observation: np.zeros(len(observation), np.int64))
    assert stubborn.num_left > 0
    assert stubborn.mean_time_loss_s > 2 * episode(SHORT, policy=max_pressure).mean_time_loss_s


@pytest.mark.sim
@pytest.mark.parametrize("kind", ["actuated", "delay_based"])
def test_sumos_own_controllers_let_everybody_arrive(kind: str) -> None:
    assert set(CONTROLLERS) == {"webster", "actuated", "delay_based", "max_pressure"}
    assert "maxDur" in controller(kind, "moderate")["programs"]
    assert episode(SHORT, programs=program(kind)).num_left == 0


@pytest.mark.sim
def test_what_was_seen_are_counts_and_clocks() -> None:
    seen: list[object] = []
    episode(GridScenario(2, "busy", minutes=2, drain_min=1), policy=max_pressure, seen=seen)
    rows = recorded(seen)
    assert rows.observation.shape == (len(rows.phase), len(OBSERVED))
    assert rows.observation.min() >= 0
    shown = rows.observation[:, OBSERVED.index("shows_north_south") : OBSERVED.index("shows_west") + 1]
    assert (shown.sum(axis=1) == 1).all()
    assert (rows.observation[:, OBSERVED.index("elapsed_s")] >= 5).all()  # only where a junction was free to choose


@pytest.mark.sim
def test_demonstrations_are_made_in_parts_and_resumed(tmp_path: Path) -> None:
    scenario = {"kind": "grid", "seed": 1, "num_runs": 2, "minutes": 2, "weights": list(TEACHER)}
    assert list(generate(scenario, tmp_path, 2)) == [(0, 2), (1, 2), (2, 2)]
    frame = pl.read_parquet(tmp_path / FILE)
    assert set(frame["run"].unique()) == {0, 1}
    assert set(OBSERVED) <= set(frame.columns)
    assert list(generate(scenario, tmp_path, 2)) == [(2, 2)]  # nothing is simulated twice
    assert pl.read_parquet(tmp_path / FILE).equals(frame)
