"""A captured prediction run again: equal, off, gone, or never captured; and the commands about captures."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from flows import capture as capturing
from flows import cli_reproduce
from flows.at_commit import predict_at
from flows.options import UsageError
from flows.reproduce import NotReproducibleError, compared, reproduce
from flows.session import CHECKOUT
from flows.workshop import Workshop
from infra.captures import CaptureError
from infra.commit import code_commit
from infra.promotion import REGISTER
from infra.settings import Settings
from infra.spool import READY, Record, SegmentWriter, frame, read_segment, segments, tensor_of
from models.artifact import tensors, wire
from models.artifact.ensemble import MeanPredictor
from models.artifact.predictor import Predictor
from services.answers import Caller, sortable_id
from services.capture import Capture
from services.schemas import Release
from tests.services.conftest import make_parcel, make_release, make_window


@dataclass(frozen=True)
class Answering:
    """What a capture sees of a served model."""

    release: Release
    predictor: Predictor | MeanPredictor
    members: tuple["Answering", ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def manifest(self) -> Any:
        return self.predictor.manifest


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(Settings(home=tmp_path / "home"))


@pytest.fixture
def served(shop: Workshop, tmp_path: Path) -> Answering:
    """A registered version of the product `tiny`, its parcel and its data in the store."""
    digest = make_parcel(tmp_path / "parcel", "forecast")
    shop.store.put_folder(f"parcels/{digest}", tmp_path / "parcel")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "values.bin").write_bytes(b"1")
    shop.store.put_folder("steps/prepare/k", tmp_path / "snapshot")
    shop.store.put_bytes("snapshots/d", b"steps/prepare/k")
    shop.ledger.append(REGISTER, "tiny", version=3, digest=digest, run_id="r1", evidence="e1", passed=True, reasons=[])
    release = make_release(digest).model_copy(update={"data_hash": "d", "code_commit": "c", "evidence_digest": "e1"})
    return Answering(release, Predictor.open(tmp_path / "parcel"))


@pytest.fixture
def answer(shop: Workshop) -> Callable[..., str]:
    """Answers a window and captures it; returns the prediction's id."""

    def make(served: Answering, masked: tuple[str, ...] = ()) -> str:
        body = msgspec.json.encode({"data": [make_window(), make_window(55)]})
        inputs = wire.parse_request(served.manifest, body).inputs
        outputs = tensors.outputs(served.manifest, served.predictor.predict(inputs))
        capture = Capture(capturing.spool_folder(shop, "tiny"), masked=masked)
        capture.start()
        prediction_id = sortable_id()
        capture.offer(served, prediction_id, Caller(tenant="north", key_id="k1"), "grpc", inputs, outputs)
        capture.stop()
        return prediction_id

    return make


def rewrite(shop: Workshop, change: Callable[[Record], Record]) -> None:
    """Write the one captured record again, changed."""
    spool = capturing.spool_folder(shop, "tiny")
    (path,) = segments(spool, READY)
    segment = read_segment(path)
    path.unlink()
    writer = SegmentWriter(spool, segment.records[0].time_us, segment.made[0])
    writer.append(frame(change(segment.records[0])))
    writer.close()


@pytest.mark.parametrize("shipped", [False, True])
def test_the_same_inputs_give_the_same_bytes(
    shipped: bool, shop: Workshop, served: Answering, answer: Callable[..., str]
) -> None:
    prediction_id = answer(served)
    if shipped:
        (done,) = capturing.ship(shop)
        assert (done["product"], done["predictions"]) == ("tiny", 1)
    record = reproduce(shop, prediction_id)
    assert (record["verdict"], record["max_difference"], record["where"]) == ("equal", 0.0, "")
    assert (record["protocol"], record["tenant"], record["key_id"]) == ("grpc", "north", "k1")
    model = record["model"]
    assert (model["product"], model["version"], model["digest"]) == ("tiny", 3, served.release.parcel_digest)
    assert (model["run_id"], model["evidence"], model["disagreements"]) == ("r1", "e1", {})
    assert model["registered"]
    assert record["data"] == {"digest": "d", "present": True}
    assert record["code"] == {"commit": "c", "current": code_commit(CHECKOUT), "ran_at": code_commit(CHECKOUT)}
    assert record["environment"]["then"] == record["environment"]["now"] != {}
    assert record["environment"]["differences"] == {}


def test_a_record_that_was_changed_differs_and_says_where(
    shop: Workshop, served: Answering, answer: Callable[..., str]
) -> None:
    prediction_id = answer(served)

    def tamper(record: Record) -> Record:
        forecast = record.outputs["forecast"].array().copy()
        forecast[1, 0, 2] += 5
        return msgspec.structs.replace(record, outputs={"forecast": tensor_of(forecast)})

    rewrite(shop, tamper)
    record = reproduce(shop, prediction_id)
    assert record["verdict"] == "differs"
    assert record["max_difference"] == pytest.approx(5)
    assert record["where"].startswith("forecast[1, 0, 2]")


def test_lineage_that_does_not_agree_is_named(shop: Workshop, served: Answering, answer: Callable[..., str]) -> None:
    other = served.release.model_copy(update={"data_hash": "d9", "run_id": "r9"})
    record = reproduce(shop, answer(replace(served, release=other)))
    assert record["verdict"] == "equal"
    assert record["model"]["disagreements"] == {"data": ["d9", "d"], "run": ["r9", "r1"]}


def test_another_environment_is_held_beside_this_one(
    shop: Workshop, served: Answering, answer: Callable[..., str]
) -> None:
    prediction_id = answer(served)
    capturing.ship(shop)
    (found,) = shop.store.list("environments")
    facts = json.loads(shop.store.get_bytes(found.key))
    shop.store.put_bytes(found.key, json.dumps({**facts, "onnxruntime": "0.1"}).encode())
    differences = reproduce(shop, prediction_id)["environment"]["differences"]
    assert differences == {"onnxruntime": ["0.1", facts["onnxruntime"]]}


def test_an_ensemble_is_run_again_as_one(
    shop: Workshop, served: Answering, answer: Callable[..., str], tmp_path: Path
) -> None:
    assert isinstance(served.predictor, Predictor)
    mean = MeanPredictor.of("mean", [served.predictor, served.predictor], (1, 2))
    release = Release(product="mean", version=1, parcel_digest=mean.digest())
    record = reproduce(shop, answer(Answering(release, mean, (served, served), mean.weights)))
    assert record["verdict"] == "equal"
    assert [one["name"] for one in record["model"]["members"]] == ["tiny/3", "tiny/3"]
    assert record["model"]["disagreements"] == {}


def test_a_parcel_that_is_gone_is_said_to_be(shop: Workshop, served: Answering, answer: Callable[..., str]) -> None:
    prediction_id = answer(served)
    shop.store.delete_folder(f"parcels/{served.release.parcel_digest}")
    with pytest.raises(NotReproducibleError, match=r"tiny/3: its parcel .* is not in"):
        reproduce(shop, prediction_id)


def test_data_that_is_gone_is_said_to_be(shop: Workshop, served: Answering, answer: Callable[..., str]) -> None:
    prediction_id = answer(served)
    shop.store.delete_folder("steps/prepare/k")
    assert reproduce(shop, prediction_id)["data"] == {"digest": "d", "present": False}


def test_what_was_masked_cannot_be_run_again(shop: Workshop, served: Answering, answer: Callable[..., str]) -> None:
    with pytest.raises(NotReproducibleError, match="b was masked"):
        reproduce(shop, answer(served, masked=("b",)))


def test_what_was_never_captured_is_explained(shop: Workshop) -> None:
    with pytest.raises(NotReproducibleError, match="share of its"):
        reproduce(shop, sortable_id())
    with pytest.raises(NotReproducibleError, match="without --url"):
        reproduce(shop, "local-20260301T120000000000")
    with pytest.raises(CaptureError, match="UUID of version 7"):
        reproduce(shop, "42")


def test_comparing_is_by_the_scale_of_the_answer() -> None:
    then = {"y": np.array([[100.0, np.nan]], np.float32)}
    assert compared(then, {"y": then["y"] + np.float32(0.01)}, 1e-3).verdict == "within tolerance"
    assert compared(then, {"y": then["y"] + np.float32(1)}, 1e-3).verdict == "differs"
    for other in ({"y": then["y"][:, :1]}, {"z": then["y"]}, {"y": np.zeros((1, 2), np.float32)}):
        assert (compared(then, other, 1e9).verdict, compared(then, other, 1e9).max_difference) == ("differs", None)


def test_a_prediction_runs_under_the_code_of_another_commit(served: Answering, tmp_path: Path) -> None:
    inputs = wire.parse_request(served.manifest, msgspec.json.encode({"data": make_window()})).inputs
    commit = code_commit(CHECKOUT).partition("+")[0]
    assert predict_at(CHECKOUT, commit, tmp_path / "parcel", inputs).tobytes() == (
        served.predictor.predict(inputs).tobytes()
    )
    for unknown in ("0" * 40, "unknown", f"{commit}+changes"):
        with pytest.raises(UsageError, match="--at-commit"):
            predict_at(CHECKOUT, unknown, tmp_path / "parcel", inputs)


@pytest.fixture
def command(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The commands in the home of `shop`; returns exit status and JSON."""
    monkeypatch.setattr(cli_reproduce, "open_workshop", lambda: shop)
    app = typer.Typer()
    app.registered_commands.extend(cli_reproduce.app.registered_commands)
    app.add_typer(cli_reproduce.capture_app, name="capture")

    def ask(*words: str) -> tuple[int, Any]:
        people = CliRunner().invoke(app, list(words))
        assert people.exception is None or isinstance(people.exception, SystemExit), people.exception
        result = CliRunner().invoke(app, [*words, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return ask


def test_the_commands_answer_people_and_programs(
    shop: Workshop, served: Answering, answer: Callable[..., str], command: Callable[..., Any]
) -> None:
    assert command("capture", "ship") == (0, [])
    prediction_id = answer(served)
    status, record = command("reproduce", prediction_id)
    assert (status, record["verdict"]) == (0, "equal")
    status, (newest,) = command("capture", "show", "tiny")
    assert (newest["prediction_id"], newest["inputs"]["x"]) == (prediction_id, "<f4[2, 4, 3, 1]")
    assert command("capture", "ship", "tiny", "--now")[1][0]["segments"] == 0  # the call for people shipped it
    rewritten = answer(served)
    rewrite(shop, lambda one: msgspec.structs.replace(one, outputs={"forecast": tensor_of(np.zeros(1))}))
    assert command("reproduce", rewritten)[0] == 3
    shutil.rmtree(shop.home / "spool")
    assert command("reproduce", prediction_id)[0] == 0  # from the store alone
