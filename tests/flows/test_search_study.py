"""The journal: nothing is tried twice, a kill loses nothing, other budgets are known."""

from pathlib import Path

import pytest

from flows.search_point import Tried
from flows.search_study import Asked, Study
from models.compression.space import Point, Space
from models.judging.pareto import Figures

pytestmark = pytest.mark.families  # no network, but the journal waits for the disk

SPACE = Space({"width": (8, 16)}, {"width": 16}, (0.0, 0.4))


def result(point: Point) -> Tried:
    width = point.student.get("width", 32) * (1 - point.prune_share)
    figures = Figures(
        name=point.name, error=1 / width, num_bytes=int(100 * width), latency_p50_ms=width / 100, latency_p99_ms=1,
        batch_p50_ms=1, batch_p99_ms=1, rows_per_second=1,
    )  # fmt: skip
    return Tried(
        point=point, digest=point.name, parcel="p", fitted="f", judged="j", num_parameters=1, figures=figures, seconds=1
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "search" / "one.journal"


def study(journal: Path, name: str = "a") -> Study:
    return Study(journal, name, SPACE, seed=1, constraints=lambda one: {"bytes": one.figures.num_bytes / 1000 - 1})


def ask(one: Study) -> Asked:
    asked = one.ask()
    assert asked is not None
    return asked


def test_a_study_entered_again_goes_on(journal: Path) -> None:
    first = study(journal)
    told = ask(first)
    first.tell(told, result(told.point))
    lost = ask(first)  # the process is killed at it
    again = study(journal)
    assert again.num_own == 1
    assert [one.name for one in again.tried] == [told.point.name]
    names = [ask(again).point.name for _ in range(8)]
    assert names[0] == lost.point.name
    assert told.point.name not in names
    assert len(set(names)) == len(names)


def test_a_torn_line_and_a_lock_left_behind_do_not_stop_it(journal: Path) -> None:
    first = study(journal)
    told = ask(first)
    first.tell(told, result(told.point))
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    journal.with_name("one.journal.lock").symlink_to(journal)
    again = study(journal)
    asked = ask(again)
    again.tell(asked, "ValueError: cannot")
    assert (again.num_own, len(again.tried), len(again.failed)) == (2, 1, 1)
    assert again.failed == [(asked.point, "ValueError: cannot")]


def test_another_budget_knows_what_was_found(journal: Path) -> None:
    first = study(journal)
    for _ in range(3):
        asked = ask(first)
        first.tell(asked, result(asked.point))
    other = study(journal, "b")
    assert (other.num_own, len(other.tried)) == (0, 3)
    assert ask(other).point.name not in {one.name for one in first.tried}


def test_it_ends_when_every_point_was_tried(journal: Path) -> None:
    one = Study(
        journal, "a", Space({}, {"width": 4}, (0.0,), ("distilled", "teacher"), ("fp32", "fp16")), 0, lambda _: {}
    )
    names = set()
    while asked := one.ask():
        names.add(asked.point.name)
        one.tell(asked, result(asked.point))
    assert len(names) == 3
