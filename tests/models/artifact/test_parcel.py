"""A parcel opens only whole, unchanged and reproducing its golden request."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.artifact.manifest import ParcelError, hash_files, read_and_verify, write_manifest
from models.artifact.parcel import grid_offset_s, judged_step
from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot
from models.recipe import Recipe

PackToy = Callable[..., tuple[Path, Predictor]]


def test_parcel_verifies_and_answers_like_the_graph(pack_toy: PackToy, toy_snapshot: Snapshot) -> None:
    folder, predictor = pack_toy(bias=1.5)
    manifest = read_and_verify(folder)
    assert manifest == predictor.manifest and manifest.digest() == Predictor.open(folder).manifest.digest()
    assert (manifest.judged_step, manifest.slots_per_day, manifest.opset) == (2, 48, 20)
    assert manifest.ranges == ((0.0, 150.0), (0.0, None))
    assert predictor.num_bytes == (folder / "model.onnx").stat().st_size
    assert predictor.golden_difference <= 1e-5
    batch = toy_snapshot.samples("val").take(np.arange(5))
    forecast = predictor.predict(batch.inputs)
    np.testing.assert_allclose(forecast, np.repeat(batch.inputs["x"][:, -1:, :, 0], 3, axis=1) + 1.5)


def test_parcel_says_nothing_of_its_maker(pack_toy: PackToy) -> None:
    folder, _ = pack_toy()
    model = onnx.load(folder / "model.onnx")
    assert not model.metadata_props and model.producer_name == "roadworthy" and not model.producer_version
    assert b"somebody" not in (folder / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "card.md"])
def test_changed_or_missing_file_is_refused(pack_toy: PackToy, name: str) -> None:
    folder, _ = pack_toy()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ParcelError, match=f"{name} was changed: expected SHA-256"):
        Predictor.open(folder)
    (folder / name).unlink()
    with pytest.raises(ParcelError, match=f"{name} missing"):
        Predictor.open(folder)


def test_extra_file_is_refused(pack_toy: PackToy) -> None:
    folder, _ = pack_toy()
    (folder / "weights").mkdir()
    (folder / "weights" / "more.bin").write_bytes(b"")
    with pytest.raises(ParcelError, match=r"weights, weights/more.bin not in the manifest"):
        Predictor.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "steer"}, "task: Input should be 'forecast', 'classify'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"files": {"model.onnx": "0"}}, "the manifest names"),
    ],
)
def test_manifest_that_is_none_is_refused(pack_toy: PackToy, change: dict[str, object], message: str) -> None:
    folder, _ = pack_toy()
    record = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(ParcelError, match=message):
        read_and_verify(folder)


def test_no_manifest_and_broken_manifest_are_refused(pack_toy: PackToy) -> None:
    folder, _ = pack_toy()
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ParcelError, match="Invalid JSON"):
        read_and_verify(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ParcelError, match=r"manifest.json missing"):
        read_and_verify(folder)


def test_golden_request_that_is_not_reproduced_is_refused(pack_toy: PackToy) -> None:
    """Every hash is right, but another graph answers."""
    folder, predictor = pack_toy("right", bias=0.0)
    other, _ = pack_toy("wrong", bias=5.0)
    (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    write_manifest(folder, predictor.manifest.model_copy(update={"files": hash_files(folder)}))
    with pytest.raises(ParcelError, match=r"golden request is not reproduced: the answer is off by \d+\.\d+% of its"):
        Predictor.open(folder)


def test_judged_step_is_the_one_nearest_to_fifteen_minutes(toy_recipe: Recipe) -> None:
    free = toy_recipe.model_copy(update={"judge": toy_recipe.judge.model_copy(update={"judged_step": None})})
    assert [judged_step(free, cadence_min, 12) for cadence_min in (1, 5, 15, 60)] == [12, 3, 1, 1]
    assert judged_step(toy_recipe, 5, 1) == 1, "never beyond the horizon"


def test_grid_offset_is_that_of_the_series(toy_snapshot: Snapshot) -> None:
    assert grid_offset_s(toy_snapshot) == 0.0
