"""Runs of the closed loop: found again, cut off by the budget, done in processes of their own."""

import json
from itertools import count
from pathlib import Path

import pytest

from flows.closed_loop import Run, drive, work

ROWS = [["moderate", 9000, "webster", 31.5]]


def run_of(rows: list[list[object]], place: str = "") -> Run:
    """A run whose work is to read rows from JSON."""
    return Run("json:loads", {"s": json.dumps(rows)}, {} if not place else {"place": place}, "code")


def test_a_run_is_what_it_is_given_and_not_where_its_files_lie() -> None:
    assert run_of(ROWS).key == run_of(ROWS, "/elsewhere").key
    assert run_of(ROWS).key != run_of([["moderate", 9001, "webster", 31.5]]).key
    assert run_of(ROWS).key != Run("json:loads", {"s": json.dumps(ROWS)}, {}, "other code").key


def test_work_calls_the_named_function() -> None:
    assert work(run_of(ROWS)) == ROWS


def test_what_was_driven_before_is_read_and_not_driven_again(tmp_path: Path) -> None:
    (tmp_path / f"{run_of(ROWS).key}.json").write_text(json.dumps(ROWS))
    [(done, rows)] = list(drive([run_of(ROWS)], tmp_path))
    assert (done, rows[0].controller, rows[0].value) == (1, "webster", 31.5)


def test_no_simulation_begins_after_the_budget(tmp_path: Path) -> None:
    seconds = count(step=100)
    assert list(drive([run_of(ROWS)], tmp_path, max_s=50, clock=lambda: float(next(seconds)))) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.sim
def test_runs_are_done_by_two_processes_and_kept(tmp_path: Path) -> None:
    runs = [run_of([["moderate", seed, "webster", 30.0 + seed]]) for seed in range(3)]
    found = list(drive(runs, tmp_path, num_processes=2))
    assert [done for done, _ in found] == [1, 2, 3]
    assert sorted(rows[0].seed for _, rows in found) == [0, 1, 2]
    assert len(list(tmp_path.glob("*.json"))) == 3
