"""Looks at real captures of a product with a real snapshot: quiet, too few, drifted, worse by labels told later."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.labels import add_labels
from flows.monitor_alarm import QUIET, close_alarm, consider, find_alarm, tell
from flows.monitor_look import look_at
from flows.monitor_record import keep, last_record
from flows.options import UsageError
from flows.prepare import build_recipe
from flows.retrain import dotted, recorded
from flows.workshop import Workshop, now
from infra import labels
from infra.ports import free_ports
from infra.settings import Settings
from infra.tracking import STEP
from tests.flows.monitored_home import UNTIL, capture_traffic, monitored_home

pytestmark = pytest.mark.services  # a real MLflow store, or processes: too slow for the fast suite


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return monitored_home(tmp_path / "home")


def dead(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The second sensor sends nothing for six hours."""
    changed = values.copy()
    changed[-24:, 1] = np.nan
    return changed


def test_a_look_is_recorded_whatever_it_finds_and_a_breach_opens_one_alarm(shop: Workshop) -> None:
    empty = look_at(shop, "tiny", 24, UNTIL, 2.0)
    assert (empty.report.status, empty.num_requests) == ("too few requests", 0)
    capture_traffic(shop)
    quiet = look_at(shop, "tiny", 24, UNTIL, 2.0)
    assert quiet.report.status == "no retraining needed"
    assert (quiet.num_requests, {one.name for one in quiet.report.checks}) == (96, {"inputs", "forecasts", "error"})
    assert quiet.report.figures["error_ratio"] == pytest.approx(1, abs=0.1)
    record, alarm, _ = keep(shop, quiet)
    assert (record["verdict"], record["alarm"], alarm) == ("no retraining needed", False, None)
    later = UNTIL + timedelta(days=1)
    capture_traffic(shop, until=later, change=dead)
    record, alarm, figure = keep(shop, look_at(shop, "tiny", 24, later, 2.0))
    assert record["reasons"][0].startswith("inputs drifted: share of missing readings of speed_kmh at b")
    assert figure.stat().st_size > 5000
    assert alarm is not None
    again, kept, _ = keep(shop, look_at(shop, "tiny", 24, later + timedelta(hours=1), 2.0))
    assert kept == alarm
    assert again["alarm_id"] == alarm.id
    assert last_record(shop, "tiny") == again
    run = shop.tracking.client.get_run(record["run_id"])
    assert run.data.tags[STEP] == "monitor"
    assert run.data.metrics["inputs_score"] > run.data.metrics["inputs_threshold"]
    assert [one.path for one in shop.tracking.client.list_artifacts(record["run_id"])] == ["figures", "report.html"]


def test_an_alarm_stays_one_until_a_retraining_ended_and_then_is_quiet_for_a_day(shop: Workshop) -> None:
    first = consider(shop, "tiny", ("worse",), UNTIL)
    assert first is not None
    assert consider(shop, "tiny", ("worse", "and more"), UNTIL + timedelta(hours=3)) == first
    with recorded(shop, "tiny", "worse") as record:
        record["verdict"] = "promoted"
    closed = find_alarm(shop, "tiny")
    assert closed is not None
    assert (closed.is_open, closed.ended) == (False, "promoted")
    (key,) = [one.key for one in shop.store.list("retrainings/tiny")]
    assert json.loads(shop.store.get_bytes(key))["reason"] == "worse"
    assert closed.closed is not None
    assert consider(shop, "tiny", ("worse",), closed.closed + QUIET / 2) is None
    second = consider(shop, "tiny", ("worse",), closed.closed + QUIET)
    assert second is not None
    assert second.id != first.id
    assert consider(shop, "tiny", (), second.opened + timedelta(days=2)) is None  # nobody acted, and it passed
    assert close_alarm(shop, "tiny", "again", UNTIL) == find_alarm(shop, "tiny")


def test_without_a_server_an_alarm_waits_to_be_told(tmp_path: Path) -> None:
    shop = Workshop(Settings(home=tmp_path / "home", prefect_port=free_ports(1)[0]))
    alarm = consider(shop, "tiny", ("worse",), UNTIL)
    assert alarm is not None
    assert tell(shop, alarm, UNTIL, {"error_ratio": 2.0}) == alarm
    assert find_alarm(shop, "tiny") == alarm


def test_a_retraining_that_fails_is_recorded_and_closes_the_alarm(shop: Workshop) -> None:
    consider(shop, "tiny", ("drifted",), now())
    with pytest.raises(UsageError), recorded(shop, "tiny", "drifted"):
        raise UsageError("no data")
    alarm = find_alarm(shop, "tiny")
    assert alarm is not None
    assert alarm.ended == "failed"


def test_labels_told_later_are_the_truth(shop: Workshop, tmp_path: Path) -> None:
    ids = capture_traffic(shop)
    file = tmp_path / "labels.csv"
    lines = [f"{one},{node},{value}" for one in ids for node, value in (("a", 500), ("b", 480), ("c", 470))]
    file.write_text("prediction_id,place,truth\n" + "\n".join(lines))
    done = add_labels(shop, "tiny", file)
    assert (done["labels"], done["predictions"], done["new_files"]) == (288, 96, 24)
    assert add_labels(shop, "tiny", file)["new_files"] == 0
    report = look_at(shop, "tiny", 24, UNTIL, 2.0).report
    assert report.reasons[0].startswith("worse: error is ")
    file.write_text(f"prediction_id,place,truth\n{ids[-1]},a,60\n")
    add_labels(shop, "tiny", file)  # the one told later counts
    found = labels.read(shop.store, "tiny", UNTIL - timedelta(minutes=20), UNTIL)
    assert {(one.place, one.truth) for one in found} == {("a", "60"), ("b", "480"), ("c", "470")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,truth\n", "expected the columns prediction_id, truth"),
        ("prediction_id,truth\n42,1\n", "line 2: prediction '42': expected the X-Prediction-Id"),
        ("prediction_id,truth,row\n42,1,x\n", "line 2, row: expected a whole number, got 'x'"),
        ("prediction_id,truth\n,1\n", "line 2: expected prediction_id and truth"),
    ],
)
def test_a_file_with_a_fault_is_refused_whole(text: str, said: str, shop: Workshop, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        add_labels(shop, "tiny", file)
    with pytest.raises(UsageError, match="product 'other': expected a live one"):
        add_labels(shop, "other", file)


def test_a_recipe_is_made_again_from_its_own_settings(tmp_path: Path) -> None:
    shop = monitored_home(tmp_path / "home", num_days=7)
    settings = {"train.num_epochs": 3, "data.horizon_steps": 4, "model.dropout": 0.25, "evaluate.protocol": "tgcn"}
    recipe = build_recipe(shop, "forecast/stid", "oregon_counts", settings, "north")
    assert build_recipe(shop, recipe.name, recipe.data.name, dotted(recipe), "north") == recipe
