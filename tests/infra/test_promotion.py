"""What the ledger says is on the road."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import promotion
from infra.aliases import MovedAlias, RegistryError, Shown, moved
from infra.ledger import Entry, Ledger
from infra.promotion import PromotionRefused, standing
from infra.refs import ModelRef

START = datetime(2026, 1, 1, tzinfo=UTC)


def ref(version: int) -> ModelRef:
    return ModelRef(product="oregon", version=version, digest=f"parcel{version}")


class Story:
    """Writes a ledger, one entry an hour."""

    def __init__(self, folder: Path) -> None:
        self.num_entries = 0
        self.ledger = Ledger(folder / "ledger.jsonl", clock=lambda: START + timedelta(hours=self.num_entries))

    def write(self, action: str, version: int, **details: object) -> Entry:
        entry = self.ledger.append(action, "oregon", version=version, digest=f"parcel{version}", **details)
        self.num_entries += 1
        return entry

    def move(self, action: str, *versions: int) -> None:
        for version in versions:
            self.write(action, version, evidence=f"evidence{version}", run_id="r")

    @property
    def entries(self) -> list[Entry]:
        return self.ledger.entries("oregon")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_nothing_is_live_before_a_promotion(story: Story) -> None:
    state = standing(story.entries)
    assert state.live is None and state.protected == ()
    assert state.aliases == {"champion": None, "challenger": None}


def test_rollbacks_walk_back_and_never_forward(story: Story) -> None:
    story.move("promote", 1, 2, 3)
    story.move("rollback", 2)
    state = standing(story.entries)
    assert (state.live, state.challenger, state.before) == (ref(2), ref(3), (ref(1),))
    story.move("rollback", 1)
    assert standing(story.entries).before == ()


def test_what_was_live_at_a_time(story: Story) -> None:
    story.move("promote", 1, 2)
    story.move("rollback", 1)
    live = [standing(story.entries, START + timedelta(hours=hour)).live for hour in (-1, 0, 0.5, 1, 2, 99)]
    assert live == [None, ref(1), ref(1), ref(2), ref(1), ref(1)]
    with pytest.raises(ValueError, match="zone"):
        standing(story.entries, datetime(2026, 1, 1))


def test_the_target_of_a_rollback_is_protected_beyond_the_window(story: Story) -> None:
    story.move("promote", 1, 2, 3)
    story.move("rollback", 2)
    story.move("promote", 4)
    story.move("rollback", 2)
    assert [one.version for one in standing(story.entries).protected] == [2, 4, 3, 1]


def test_a_deleted_version_is_no_target(story: Story) -> None:
    story.move("promote", 1, 2, 3, 4)
    story.write("delete", 1)
    state = standing(story.entries)
    assert state.before == (ref(2), ref(3))
    assert state.deleted == {1}
    story.write("register", 1, evidence="good", passed=True, reasons=[], run_id="r")
    assert standing(story.entries).deleted == set()


def test_evidence_is_asked_for(story: Story) -> None:
    story.write("register", 1, evidence="good", passed=True, reasons=[], run_id="r")
    story.write("register", 2, evidence="bad", passed=False, reasons=["loses to last_value"], run_id="r")
    assert promotion.check_evidence(story.entries, ref(1), "good").details["evidence"] == "good"
    refusals = [
        (1, "", "got none"),
        (1, "other", "got other"),
        (2, "bad", "loses to last_value"),
        (3, "x", "registered"),
    ]
    for version, evidence, words in refusals:
        with pytest.raises(PromotionRefused, match=words):
            promotion.check_evidence(story.entries, ref(version), evidence)


def test_tenures_join_without_a_gap(story: Story) -> None:
    story.move("promote", 1, 2)
    story.move("rollback", 1)
    rows = promotion.tenures(story.entries)
    assert [row["version"] for row in rows] == [1, 2, 1]
    assert [row["until"] for row in rows] == [rows[1]["since"], rows[2]["since"], None]


def shown(champion: int | None, projected: int, challenger: int | None = None) -> Shown:
    given = {"champion": champion, "challenger": challenger}
    pages: dict = dict.fromkeys(range(1, 5))
    return Shown({alias: version for alias, version in given.items() if version}, pages, projected)


def test_an_interrupted_projection_is_not_a_moved_alias(story: Story) -> None:
    story.move("promote", 1, 2)
    assert moved(story.entries, shown(1, projected=1)) == []  # killed before the alias
    assert moved(story.entries, shown(2, projected=1)) == []  # killed after it
    assert moved(story.entries, shown(2, projected=2, challenger=1)) == []


def test_a_moved_alias_is_seen(story: Story) -> None:
    story.move("promote", 1, 2)
    assert moved(story.entries, shown(3, projected=2, challenger=1)) == [MovedAlias("champion", 2, 3)]
    assert moved(story.entries, shown(None, projected=2, challenger=1)) == [MovedAlias("champion", 2, None)]
    assert moved(story.entries, shown(3, projected=1)) == [MovedAlias("champion", 2, 3)]  # also amid a projection
    assert moved([], shown(3, projected=0)) == [MovedAlias("champion", None, 3)]


def test_a_restoration_killed_half_way_is_recorded_once(story: Story) -> None:
    story.move("promote", 1, 2)
    story.ledger.append("alias_restored", "oregon", alias="champion", found=3, expected=2)
    assert moved(story.entries, shown(3, projected=2, challenger=1)) == []


def test_a_ledger_behind_the_registry_is_refused(story: Story) -> None:
    story.move("promote", 1)
    with pytest.raises(RegistryError, match="expected entry 7"):
        moved(story.entries, shown(1, projected=7))
