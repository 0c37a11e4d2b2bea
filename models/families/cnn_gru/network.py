"""Weighs places: at which of them would the car's track have lain on roads?

The track's own shape (wheel speed along headings) is laid over the map at every place of a grid that is turned into the
direction of travel. Convolutions see, for each place, how near a road every past step would have been; a GRU sees the
fixes against the track. Their logits make a mean over the places. All is relative to the fixes, whose origin is the
Kalman estimate in round numbers; so the answer is a correction of it.
Laying a shape over a map: Olson, Real-time correlative scan matching, ICRA 2009. GRU: Cho et al., EMNLP 2014.
A raster of the map as a network's input: Cui et al., Multimodal trajectory predictions, ICRA 2019.
"""

from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.fixes import CADENCE_S
from models.data.kalman import STANDING_MPS
from models.data.raster import CELL_M
from models.data.shape import TensorShape
from models.families.cnn_gru.card import CnnGruConfig

NUM_FEATURES = 10
PRIOR_OFFSET = 0.3 * pi / 180 * CADENCE_S  # radians a step: how wrong a gyroscope's zero is taken to be
PRIOR_COURSE_MPS = 0.5  # error of the velocity across the way


class Shape(NamedTuple):
    """The way of a car from its wheels and gyroscope, and where the fixes put it."""

    way_m: Tensor  # [B, T, 2], from the last step back to each
    anchor_m: Tensor  # [B, 2], the last step's place by the mean of all fixes, each carried along the way
    axes: Tensor  # [B, 2, 2], ahead and to the left at the last step


class CnnGru(nn.Module):
    """fixes [B, T, 6] and patch [B, 1, P, P] to a position [B, 2] in metres."""

    places_m: Tensor

    def __init__(self, shape: TensorShape, config: CnnGruConfig) -> None:
        super().__init__()
        sizes = {spec.name: spec.shape for spec in shape.inputs}
        num_steps, self.patch_m = sizes["fixes"][0], sizes["patch"][-1] * CELL_M
        side = 2 * round(config.reach_m / config.spacing_m) + 1
        line = torch.linspace(-config.reach_m, config.reach_m, side)
        ahead, aside = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("places_m", torch.stack([ahead.flatten(), aside.flatten()], 1))  # [K, 2]
        self.side = side
        self.recurrent = nn.GRU(NUM_FEATURES, config.width, batch_first=True)
        self.told = nn.Linear(config.width, config.num_filters)
        self.first = nn.Conv2d(num_steps, config.num_filters, 3, padding=1)
        self.further = nn.ModuleList(
            nn.Conv2d(config.num_filters, config.num_filters, 3, padding=1) for _ in range(config.num_convolutions - 1)
        )
        self.weight = nn.Conv2d(config.num_filters, 1, 1)
        self.place = nn.Linear(config.width, 4)  # where the fixes alone point, and how sharply
        self.rest = nn.Linear(config.width + config.num_filters, 2)

    def forward(self, fixes: Tensor, patch: Tensor, fixes_mask: Tensor) -> Tensor:
        """fixes, fixes_mask: [B, T, 6], patch: [B, 1, P, P]; returns [B, 2]."""
        return self.forward_hidden(fixes, patch, fixes_mask)[0]

    def forward_hidden(self, fixes: Tensor, patch: Tensor, fixes_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The position, and the hidden state [B, D]."""
        seen = fixes_mask[:, :, 0]
        shape = dead_reckoned(fixes, seen)
        states, _ = self.recurrent(features(fixes, seen, shape))
        state = states[:, -1]  # [B, D]
        offsets = (self.places_m[:, :, None] * shape.axes[:, None]).sum(
            2
        )  # [B, K, 2], turned from ahead/aside to east/north
        roads = self.look(patch, shape.anchor_m[:, None] + shape.way_m, offsets)  # [B, T, K]
        maps = torch.relu(
            self.first(roads.reshape(-1, roads.shape[1], self.side, self.side)) + self.told(state)[:, :, None, None]
        )
        for convolution in self.further:
            maps = torch.relu(convolution(maps) + maps)
        logits = self.weight(maps).flatten(1)  # [B, K]
        point = self.place(state)
        apart = (self.places_m / 20 - point[:, None, :2]).square() * functional.softplus(point[:, None, 2:])
        share = (logits - apart.sum(2)).softmax(1)
        mean_m = (share[:, :, None] * self.places_m).sum(1)  # [B, 2] ahead and aside
        pooled = (maps.flatten(2) * share[:, None]).sum(2)  # [B, C]
        hidden = torch.cat([state, pooled], 1)
        step_m = mean_m + 10 * self.rest(hidden)
        return shape.anchor_m + (step_m[:, :, None] * shape.axes).sum(1), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: units of the GRU, and filters."""
        width = self.recurrent.hidden_size
        units = [("told.weight", 1, 0), ("place.weight", 1, 0), ("rest.weight", 1, 0), ("recurrent.weight_hh_l0", 1, 0)]
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            units += [(f"recurrent.{kind}_l0", 0, gate * width) for gate in range(3)]
        filters = [("first.weight", 0, 0), ("first.bias", 0, 0), ("told.weight", 0, 0), ("told.bias", 0, 0)]
        for layer in range(len(self.further)):  # each adds to what it reads, so all share their filters
            path = f"further.{layer}"
            filters += [(f"{path}.weight", 0, 0), (f"{path}.bias", 0, 0), (f"{path}.weight", 1, 0)]
        filters += [("weight.weight", 1, 0), ("rest.weight", 1, width)]
        return {"recurrent": units, "filters": filters}

    def look(self, patch: Tensor, track_m: Tensor, offsets_m: Tensor) -> Tensor:
        """The map where each step [B, T, 2] would be if the car were at each offset [B, K, 2]: [B, T, K]."""
        grid = (track_m[:, :, None] + offsets_m[:, None]) * (2 / self.patch_m)  # x east, y north, -1 to 1
        return functional.grid_sample(patch, grid, padding_mode="zeros", align_corners=False)[:, 0]


def dead_reckoned(fixes: Tensor, seen: Tensor) -> Shape:
    """The way [B, T, 2], from wheel speed and turn rate; the courses say where it leads and what the gyroscope adds.

    Heading at each step = turned since the first + one angle + steps driven x one offset; angle and offset are the
    weighted least squares over all courses, the offset held near 0 where they say little.
    """
    sin, cos, speed_mps = fixes[:, :, 2], fixes[:, :, 3], fixes[:, :, 4]
    moving = (speed_mps > STANDING_MPS).to(fixes.dtype)
    turned = fixes[:, :, 5] * moving * (CADENCE_S * pi / 180)
    since, steps = turned.cumsum(1), moving.cumsum(1)  # [B, T]
    weight = seen * moving * (speed_mps / PRIOR_COURSE_MPS) ** 2 + 1e-6 * seen
    north, east = sin * since.cos() - cos * since.sin(), cos * since.cos() + sin * since.sin()
    mean_north, mean_east = (weight * north).sum(1, keepdim=True), (weight * east).sum(1, keepdim=True) + 1e-9
    apart = torch.atan2(north * mean_east - east * mean_north, east * mean_east + north * mean_north + 1e-9)
    total = weight.sum(1, keepdim=True) + 1e-9
    middle = (weight * steps).sum(1, keepdim=True) / total
    spread = (weight * (steps - middle) ** 2).sum(1, keepdim=True) + PRIOR_OFFSET**-2
    offset = (weight * (steps - middle) * apart).sum(1, keepdim=True) / spread
    angle = torch.atan2(mean_north, mean_east) + (weight * apart).sum(1, keepdim=True) / total
    heading = since + angle + offset * (steps - middle)  # [B, T]
    halfway = heading - (turned + offset * moving) / 2
    step_m = torch.stack([halfway.cos(), halfway.sin()], 2) * (speed_mps * CADENCE_S)[:, :, None]
    way = step_m.cumsum(1)
    way = way - way[:, -1:]
    known = seen[:, :, None]
    anchor = ((fixes[:, :, :2] - way) * known).sum(1) / known.sum(1).clamp(min=1)
    last = heading[:, -1]
    axes = torch.stack([last.cos(), last.sin(), -last.sin(), last.cos()], 1).reshape(-1, 2, 2)
    return Shape(way, anchor, axes)


def features(fixes: Tensor, seen: Tensor, shape: Shape) -> Tensor:
    """What the GRU sees of each step [B, T, 10], in the direction of travel of the last one."""
    known = seen[:, :, None]
    apart = (fixes[:, :, :2] - shape.anchor_m[:, None] - shape.way_m) * known / 20  # [B, T, 2]
    turned = (apart[:, :, None] * shape.axes[:, None]).sum(3)
    back = (shape.way_m[:, :, None] * shape.axes[:, None]).sum(3) / 100
    course = (torch.stack([fixes[:, :, 3], fixes[:, :, 2]], 2)[:, :, None] * shape.axes[:, None]).sum(3) * known
    far = turned.square().sum(2, keepdim=True).clamp(max=4)
    own = [fixes[:, :, 4:5] / 10, fixes[:, :, 5:] / 20, known, far]
    return torch.cat([turned, back, course, *own], 2)
