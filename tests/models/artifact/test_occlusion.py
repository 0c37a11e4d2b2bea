"""What is hidden of a request, and what is left as it was."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import occlusion
from models.artifact.manifest import Manifest

FACTS: dict[str, Any] = {
    "product": "p", "variant": "v", "family": "f", "data_digest": "", "recipe_digest": "", "code_commit": "",
    "num_parameters": 0, "opset": 20, "files": {}, "ranges": (),
}  # fmt: skip
FORECAST, CLASSIFY = Manifest(**FACTS, task="forecast"), Manifest(**FACTS, task="classify")


def window(num_steps: int, num_nodes: int, num_channels: int = 2) -> dict[str, NDArray[Any]]:
    shape = (1, num_steps, num_nodes, num_channels)
    x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    return {"x": x, "mask": np.ones_like(x), "clock": np.zeros((1, 2), np.int64)}


def test_each_row_hides_one_node_at_one_lag_and_nothing_else() -> None:
    inputs = window(3, 2)
    plan = occlusion.plan(FORECAST, inputs)
    assert plan.shape == (2, 3) and plan.num_rows == 6
    hidden = plan.hidden(0, 6, "missing")
    for row in range(6):
        node, step = divmod(row, 3)
        expected = np.ones((3, 2, 2), np.float32)
        expected[step, node] = 0
        np.testing.assert_array_equal(hidden["mask"][row], expected)
        np.testing.assert_array_equal(hidden["x"][row], inputs["x"][0] * expected)
        np.testing.assert_array_equal(hidden["clock"][row], inputs["clock"][0])
    assert inputs["mask"].all()  # the request itself is left alone


@pytest.mark.parametrize(("num_steps", "num_nodes"), [(12, 30), (12, 207), (12, 5_000), (7, 200), (1, 1)])
def test_groups_cover_every_step_once_and_are_not_too_many(num_steps: int, num_nodes: int) -> None:
    plan = occlusion.plan(FORECAST, window(num_steps, num_nodes, 1))
    assert plan.num_rows <= max(occlusion.MAX_EFFECTS, num_nodes)
    groups = [box.first for box in plan.boxes if box.second == slice(0, 1)]
    steps = [step for group in groups for step in range(num_steps)[group]]
    assert steps == list(range(num_steps))
    assert num_steps - groups[-1].start == plan.size[1]  # the latest lags are a whole group


def test_a_mean_is_of_what_was_seen_of_that_node() -> None:
    inputs = window(3, 2, 1)
    inputs["mask"][0, 0, 1] = 0
    inputs["x"][0, 0, 1] = 0
    plan = occlusion.plan(FORECAST, inputs)
    hidden = plan.hidden(0, 6, "mean")
    np.testing.assert_array_equal(hidden["mask"], inputs["mask"].repeat(6, 0))
    assert hidden["x"][0, 0, 0, 0] == np.float32((1 + 3 + 5) / 3)
    assert hidden["x"][4, 1, 1, 0] == np.float32((4 + 6) / 2)
    assert hidden["x"][3, 0, 1, 0] == 0  # what was missing stays as it came


def test_the_probe_tells_a_graph_that_ignores_the_mask() -> None:
    plan = occlusion.plan(FORECAST, window(3, 2))
    rows = plan.probe("missing")
    looks = np.stack([(x * mask).sum(keepdims=True) for x, mask in zip(rows["x"], rows["mask"], strict=True)])
    ignores = np.stack([x.sum(keepdims=True) for x in rows["x"]])
    assert occlusion.ignores_mask(ignores) and not occlusion.ignores_mask(looks)
    assert looks[1] == 0 and ignores[1] == 0


@pytest.mark.parametrize("size", [(3, 3), (8, 8), (28, 28), (32, 20), (224, 224), (1, 5)])
def test_patches_reach_every_pixel(size: tuple[int, int]) -> None:
    num_channels = 3 if max(size) < 100 else 1  # of a large image 200 MB are enough
    image = np.ones((1, num_channels, *size), np.float32)
    plan = occlusion.plan(CLASSIFY, {"x": image})
    assert plan.num_rows <= 17**2
    hidden = plan.hidden(0, plan.num_rows, "zero")["x"]
    assert hidden.shape == (plan.num_rows, num_channels, *size)
    assert not hidden.min(axis=0).any()  # each pixel is black in one of them
    assert ((hidden == 0).sum(axis=(1, 2, 3)) == num_channels * plan.size[0] * plan.size[1]).all()
    np.testing.assert_array_equal(plan.hidden(0, plan.num_rows, "mean")["x"], np.ones_like(hidden))


def test_an_effect_is_the_prediction_less_what_it_is_without() -> None:
    plan = occlusion.plan(FORECAST, window(2, 2))
    effects = plan.effects(5.0, np.array([1, 5, 7, 5], np.float32))
    np.testing.assert_array_equal(effects, [[4, 0], [-2, 0]])
