"""The closed-loop record and its gate: pairs, budgets, and who is the best reference."""

import pytest

from models.judging.closed_loop import ClosedLoop, LoopRow, champion_gate, judge_loop, loop_gate
from models.recipe import JudgeRecipe

RULES = JudgeRecipe()


def rows(**by_controller: list[float]) -> list[LoopRow]:
    """Two scenarios for each seed; the second one is ten seconds slower for everybody."""
    return [
        LoopRow(scenario=scenario, seed=seed, controller=name, value=value + extra)
        for name, values in by_controller.items()
        for seed, value in enumerate(values)
        for scenario, extra in (("moderate", 0.0), ("busy", 10.0))
    ]


def test_a_candidate_that_is_better_on_every_seed_passes_against_the_best_reference() -> None:
    found = rows(policy=[20.0, 30.0, 40.0], webster=[30.0, 41.0, 50.0], delay=[21.0, 31.1, 41.2])
    record = judge_loop(found, "policy", ["webster", "delay"], 3, RULES)
    assert record.best_reference == "delay"
    assert record.passed
    assert record.means["policy"] == pytest.approx(35.0)
    assert record.difference.value == pytest.approx(-1.1)
    assert -1.4 < record.difference.low < record.difference.high < -0.8
    assert set(record.differences) == {"webster", "delay"}
    gate = loop_gate(record)
    assert gate.passed
    assert "policy beats delay, the best of webster, delay, in closed loop on 3 unseen seeds" in gate.reason


def test_a_difference_that_the_seeds_do_not_agree_on_is_refused_with_its_figures() -> None:
    found = rows(policy=[20.0, 33.0, 40.0], delay=[25.0, 31.0, 41.0])
    record = judge_loop(found, "policy", ["delay"], 3, RULES)
    assert record.difference.value < 0 < record.difference.high
    gate = loop_gate(record)
    assert not gate.passed
    assert "does not beat delay" in gate.reason
    assert gate.got == f"{record.difference.high:+.3g}"


def test_only_seeds_that_everybody_finished_are_compared() -> None:
    found = rows(policy=[20.0, 30.0, 90.0], delay=[21.0, 31.5, 1.0])
    found = [row for row in found if (row.seed, row.controller, row.scenario) != (2, "delay", "busy")]
    record = judge_loop(found, "policy", ["delay"], 8, RULES)
    assert (record.num_seeds, record.num_wished) == (2, 8)
    assert {row.seed for row in record.scenarios} == {0, 1}
    assert "on 2 unseen seeds (6 more did not fit into the budget)" in loop_gate(record).reason


def test_whoever_is_no_reference_is_not_in_the_record() -> None:
    found = rows(policy=[20.0, 30.0], delay=[21.0, 31.5], shown_only=[1.0, 1.0])
    record = judge_loop(found, "policy", ["delay"], 2, RULES)
    assert {row.controller for row in record.scenarios} == {"policy", "delay"}


def test_a_single_seed_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="expected at least 2 seeds that every controller finished, got 1"):
        judge_loop(rows(policy=[20.0], delay=[21.0]), "policy", ["delay"], 8, RULES)


def test_the_record_goes_to_json_and_back() -> None:
    record = judge_loop(rows(policy=[20.0, 30.0], delay=[21.0, 31.5]), "policy", ["delay"], 2, RULES, unit="s")
    assert ClosedLoop.model_validate_json(record.model_dump_json()) == record


def test_a_driven_candidate_is_held_against_a_driven_champion() -> None:
    mine = judge_loop(rows(policy=[20.0, 30.0, 40.0], delay=[25.0, 35.0, 45.0]), "policy", ["delay"], 3, RULES)
    better = judge_loop(rows(champion=[19.0, 28.9, 39.1], delay=[25.0, 35.0, 45.0]), "champion", ["delay"], 3, RULES)
    assert champion_gate(mine, None, 0.95).passed
    assert champion_gate(better, mine, 0.95).passed
    refused = champion_gate(mine, better, 0.95)
    assert not refused.passed and "policy is worse than the champion in closed loop on 3 seeds" in refused.reason
