"""The residual network takes images of any size, and loses inner channels without losing its way."""

import pytest
import torch

from models.catalog import family
from models.compression.pruning import prune_units
from models.data.shape import ImageShape
from models.families.resnet.card import ResnetConfig
from models.families.resnet.network import Resnet
from models.training.build import build_network


@pytest.mark.parametrize(("size", "last"), [((4, 4), 2), ((8, 8), 2), ((28, 28), 7), ((32, 48), 8), ((100, 80), 10)])
def test_any_size_and_colour(size: tuple[int, int], last: int) -> None:
    network = Resnet(ImageShape(3, *size, 5), ResnetConfig(widths=(4, 6, 8), num_blocks=1)).eval()
    sides = []
    network.blocks[-1].register_forward_hook(lambda module, inputs, output: sides.append(min(output.shape[2:])))
    assert network(torch.rand(2, 3, *size)).shape == (2, 5)
    assert sides == [last]


def test_pruned_blocks_are_narrow_inside_and_as_wide_outside() -> None:
    card = family("classify", "resnet")
    network = build_network(card, ImageShape(1, 8, 8, 3), ResnetConfig(widths=(8, 16), num_blocks=2), None, 1).eval()
    prune_units(network, 0.5)
    widths = [(block.first.out_channels, block.second.out_channels) for block in network.blocks]  # type: ignore[union-attr]
    assert widths == [(4, 8), (4, 8), (8, 16), (8, 16)]
    assert network(torch.rand(2, 1, 8, 8)).isfinite().all()
