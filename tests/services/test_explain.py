"""Explanations of graphs whose weights are known: what must come out is known too."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from models.artifact import tensors, wire
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.predictor import Predictor
from services.explain import explain
from services.heatmap import WIDTH, colours

Folder = Callable[[str], Path]


@dataclass
class Direct:
    """A served model without a process around it; counts the rows of each call."""

    predictor: Predictor
    sizes: list[int]
    model_version: str = "tiny/3"

    @property
    def manifest(self) -> Manifest:
        return self.predictor.manifest

    async def infer(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.sizes.append(len(inputs["x"]))
        return tensors.outputs(self.manifest, self.predictor.predict(inputs))


def opened(folder: Path) -> Direct:
    return Direct(Predictor.open(folder / "parcel"), [])


def asked(served: Direct, data: Any, **query: str) -> dict[str, Any]:
    request = wire.parse_request(served.manifest, json.dumps({"data": data}).encode())
    content_type, body = asyncio.run(explain(served, request, query))
    assert content_type == "application/json"
    answer: dict[str, Any] = json.loads(body)
    return answer


def weights(folder: Path) -> NDArray[np.float32]:
    """[T, N, H, N] of the linear graph of a served folder."""
    stored = {each.name: each for each in onnx.load(folder / "parcel" / "model.onnx").graph.initializer}
    return numpy_helper.to_array(stored["weights"]).reshape(4, 3, 2, 3)


def test_an_effect_on_a_linear_graph_is_weight_times_value(served_folder: Folder, window: Any) -> None:
    folder = served_folder("forecast")
    answer = asked(opened(folder), window, node="b", horizon_min="30")
    values = np.array([[value or 0 for value in row] for row in window["values"]])  # [T, N]
    expected = (weights(folder)[:, :, 1, 1] * values).T
    np.testing.assert_allclose(answer["effects"], expected, atol=1e-4)
    assert answer["explained"] | {"prediction": 0} == {
        "node": "b", "horizon_min": 30.0, "units": "km/h", "prediction": 0
    }  # fmt: skip
    assert answer["nodes"] == ["a", "b", "c"] and answer["lags_min"] == [45.0, 30.0, 15.0, 0.0]


def test_what_is_missing_or_not_used_has_no_effect(served_folder: Folder, window: Any) -> None:
    answer = asked(opened(served_folder("forecast")), window)
    assert answer["effects"][2] == [0.0] * 4  # node c came as null throughout
    assert {item["node"] for item in answer["most"]} == {"a", "b"} and len(answer["most"]) == 8


def test_the_most_are_sorted_and_their_shares_are_of_all(served_folder: Folder, window: Any) -> None:
    answer = asked(opened(served_folder("forecast")), window, step="1")
    sizes = [abs(item["effect"]) for item in answer["most"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(item["share"] for item in answer["most"]) == pytest.approx(1, abs=1e-5)  # no more than ten moved it
    first = answer["most"][0]
    row, column = answer["nodes"].index(first["node"]), answer["lags_min"].index(first["lag_min"])
    assert answer["effects"][row][column] == first["effect"]


def test_the_prediction_and_the_baseline_are_the_graphs(served_folder: Folder, window: Any) -> None:
    served = opened(served_folder("forecast"))
    answer = asked(served, window, node="c", step="2")
    request = wire.parse_request(served.manifest, json.dumps({"data": window}).encode())
    assert answer["explained"]["prediction"] == pytest.approx(float(served.predictor.predict(request.inputs)[0, 1, 2]))
    nothing = {name: np.zeros_like(array) for name, array in request.inputs.items()} | {
        "clock": request.inputs["clock"]
    }
    without = float(served.predictor.predict(nothing)[0, 1, 2])
    assert answer["baseline"] == {"fill": "missing", "prediction": pytest.approx(without)}
    # A linear graph is the one case in which effects add up.
    total = np.sum(answer["effects"])
    assert total == pytest.approx(answer["explained"]["prediction"] - answer["baseline"]["prediction"], abs=1e-3)


def test_rows_go_in_batches_that_the_contract_allows(served_folder: Folder, window: Any) -> None:
    served = opened(served_folder("forecast"))
    asked(served, window)
    assert max(served.sizes) == served.manifest.max_batch and sum(served.sizes) == 12 + 3


def test_a_graph_that_ignores_the_mask_gets_the_mean_instead(
    tmp_path: Path, served_folder: Folder, window: Any
) -> None:
    folder = served_folder("forecast")
    served = opened(folder)
    full = {**window, "values": [[float(10 * step + node) for node in range(3)] for step in range(4)]}

    async def blind(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        raw = served.predictor.predict({**inputs, "mask": np.ones_like(inputs["mask"])})
        return tensors.outputs(served.manifest, raw)

    served.infer = blind  # type: ignore[method-assign]
    answer = asked(served, full, node="a", step="1")
    assert answer["baseline"]["fill"] == "mean"
    values = np.array(full["values"])
    expected = (weights(folder)[:, :, 0, 0] * (values - values.mean(axis=0))).T
    np.testing.assert_allclose(answer["effects"], expected, atol=1e-4)


def test_a_patch_moves_the_asked_class(served_folder: Folder) -> None:
    image = [[0.0] * 3, [0.0, 1.0, 0.0], [0.0] * 3]
    answer = asked(opened(served_folder("classify")), [image], **{"class": "one", "fill": "zero"})
    effects = np.array(answer["effects"])
    share = 1 / (1 + np.exp(-2.0))  # of the class that is bright by one pixel: logits -1 and 1
    assert answer["explained"]["prediction"] == pytest.approx(share, abs=1e-5)
    assert effects[1, 1] == pytest.approx(share - 0.5, abs=1e-5)
    assert np.count_nonzero(effects) == 1
    assert answer["patch_px"] == [1, 1] and answer["most"][0] | {"effect": 0} == {
        "top_px": 1, "left_px": 1, "effect": 0, "share": 1.0
    }  # fmt: skip


def test_the_likeliest_class_is_explained_where_none_is_named(served_folder: Folder) -> None:
    served = opened(served_folder("classify"))
    assert asked(served, [[[1.0] * 3] * 3])["explained"]["class"] == "one"


BAD = [
    {"node": "nowhere"}, {"step": "0"}, {"step": "3"}, {"step": "x"}, {"horizon_min": "20"}, {"class": "one"},
    {"step": "1", "horizon_min": "15"}, {"fill": "zero"}, {"format": "pdf"}, {"method": "magic"}, {"speed": "1"},
]  # fmt: skip


@pytest.mark.parametrize("query", BAD, ids=str)
def test_a_question_that_cannot_be_answered_is_refused(served_folder: Folder, window: Any, query: Any) -> None:
    with pytest.raises(InputError) as caught:
        asked(opened(served_folder("forecast")), window, **query)
    assert caught.value.where.startswith("query") and all(caught.value.as_dict().values())


def test_only_one_row_is_explained(served_folder: Folder, window: Any) -> None:
    with pytest.raises(InputError, match="too many rows"):
        asked(opened(served_folder("forecast")), [window, window])


@pytest.mark.parametrize("task", ["forecast", "classify"])
def test_the_picture_is_a_png_that_shows_the_largest_effect(served_folder: Folder, window: Any, task: str) -> None:
    served = opened(served_folder(task))
    data = window if task == "forecast" else [[[0.0] * 3, [0.0, 1.0, 0.0], [0.0] * 3]]
    request = wire.parse_request(served.manifest, json.dumps({"data": data}).encode())
    content_type, body = asyncio.run(explain(served, request, {"format": "png"}))
    assert content_type == "image/png"
    with Image.open(io.BytesIO(body)) as image:
        assert image.format == "PNG" and image.width == WIDTH and image.height >= 500
        found = {colour for _, colour in image.getcolors(1 << 20)}
    assert tuple(colours(np.array(1.0)).tolist()) in found


def test_colours_are_symmetric_about_white_and_grow_with_the_effect() -> None:
    shares = np.array([-1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0])
    brightness = colours(shares).astype(float).mean(axis=1)
    assert brightness[3] == 247 and brightness.argmax() == 3
    assert (np.diff(brightness[:4]) > 0).all() and (np.diff(brightness[3:]) < 0).all()
    assert colours(np.array(-1.0))[2] > colours(np.array(-1.0))[0]  # blue, where red is
    assert colours(np.array(1.0))[0] > colours(np.array(1.0))[2]
