"""Positioning families: what they do with outages, and what must not matter to them."""

import numpy as np
import pytest
import torch

from models.catalog import family
from models.data.scaling import Scaler
from models.data.shape import TensorShape
from models.datasets.city_drives import CARD
from models.tasks.localise import TASK

SHAPE = TensorShape(CARD.contract.inputs, CARD.contract.target)


def built(name):
    torch.manual_seed(0)
    card = family("localise", name)
    return TASK.wrap(card.load()(SHAPE, card.student or card.config()), SHAPE, Scaler((0.0,), (1.0,))).eval()


def inputs(size=3):
    random = np.random.default_rng(1)
    fixes = random.normal(0, 20, (size, 30, 6)).astype(np.float32)
    fixes[:, :, 2:4] = np.array([0.6, 0.8], np.float32)
    fixes[:, :, 4], fixes[:, :, 5] = 8.0, 1.0
    fixes[:, 12:15, :4] = np.nan
    return {"fixes": torch.from_numpy(fixes), "patch": torch.zeros(size, 1, 40, 40)}


def test_the_last_fix_is_the_last_one_seen():
    given = inputs()
    given["fixes"][0, 20:, :4] = torch.nan
    expected = given["fixes"][:, -1, :2].clone()
    expected[0] = given["fixes"][0, 19, :2]
    torch.testing.assert_close(built("last_fix")(**given), expected)


@pytest.mark.parametrize("name", ["kalman", "cnn_gru"])
def test_the_origin_does_not_matter(name):
    network, given = built(name), inputs()
    with torch.no_grad():
        there = network(**given)
        moved = given["fixes"].clone()
        moved[:, :, :2] += torch.tensor([60.0, -30.0])
        here = network(fixes=moved, patch=given["patch"])
    torch.testing.assert_close(here, there + torch.tensor([60.0, -30.0]), atol=0.02, rtol=1e-4)


def test_the_compass_does_not_matter():
    """A quarter turn of everything turns the answer alike: what is learned is learned for every direction."""
    network, given = built("cnn_gru"), inputs()
    given["patch"] = torch.rand(3, 1, 40, 40, generator=torch.Generator().manual_seed(2))
    turned = given["fixes"].clone()
    turned[:, :, 0], turned[:, :, 1] = -given["fixes"][:, :, 1], given["fixes"][:, :, 0]
    turned[:, :, 2], turned[:, :, 3] = given["fixes"][:, :, 3], -given["fixes"][:, :, 2]
    with torch.no_grad():
        there = network(**given)
        here = network(fixes=turned, patch=torch.rot90(given["patch"], -1, (2, 3)))
    torch.testing.assert_close(here, torch.stack([-there[:, 1], there[:, 0]], 1), atol=0.05, rtol=1e-3)


def test_without_any_fix_an_answer_is_still_a_number():
    given = inputs()
    given["fixes"][:, :, :4] = torch.nan
    for name in ("last_fix", "kalman", "cnn_gru"):
        assert torch.isfinite(built(name)(**given)).all(), name
