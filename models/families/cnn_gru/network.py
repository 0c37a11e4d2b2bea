"""Weighs places around the Kalman estimate: at which of them would the car's track have lain on roads?

The track's own shape (wheel speed along the filtered headings) is laid over the map at every place of a grid, turned
into the direction of travel. Convolutions see, for each place, how near a road every past step would have been; a GRU
sees the fixes against the track. Their logits make a mean over the places, which is added to the Kalman estimate.
Laying a shape over a map: Olson, Real-time correlative scan matching, ICRA 2009. GRU: Cho et al., EMNLP 2014.
A raster of the map as a network's input: Cui et al., Multimodal trajectory predictions, ICRA 2019.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.kalman import CADENCE_S, Track, follow
from models.data.raster import CELL_M
from models.data.shape import TensorShape
from models.families.cnn_gru.card import CnnGruConfig

NUM_FEATURES = 11


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
        track = follow(fixes, seen)
        here, heading = track.state[:, -1, :2], track.state[:, -1, 2]
        shape_m = along(track, fixes[:, :, 4])  # [B, T, 2], the last one 0
        axes = torch.stack([heading.cos(), heading.sin(), -heading.sin(), heading.cos()], 1).reshape(-1, 2, 2)
        states, _ = self.recurrent(features(fixes, seen, track, shape_m, axes))
        state = states[:, -1]  # [B, D]
        offsets = (self.places_m[:, :, None] * axes[:, None]).sum(2)  # [B, K, 2], turned from ahead/aside to east/north
        roads = self.look(patch, here[:, None] + shape_m, offsets)  # [B, T, K]
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
        return here + (step_m[:, :, None] * axes).sum(1), hidden

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


def along(track: Track, speed_mps: Tensor) -> Tensor:
    """The way [B, T, 2] from the last step back to each: wheel speed along the filtered headings."""
    heading = track.state[:, :, 2]
    turned = heading[:, 1:] - heading[:, :-1]
    middle = heading[:, :-1] + torch.atan2(turned.sin(), turned.cos()) / 2
    step = torch.stack([middle.cos(), middle.sin()], 2) * (speed_mps[:, 1:] * CADENCE_S)[:, :, None]
    way = functional.pad(step.cumsum(1), (0, 0, 1, 0))
    return way - way[:, -1:]


def features(fixes: Tensor, seen: Tensor, track: Track, shape_m: Tensor, axes: Tensor) -> Tensor:
    """What the GRU sees of each step [B, T, 11], in the direction of travel of the last one."""
    known = seen[:, :, None]
    apart = (fixes[:, :, :2] - track.state[:, -1:, :2] - shape_m) * known / 20  # [B, T, 2]
    turned = (apart[:, :, None] * axes[:, None]).sum(3)
    back = (shape_m[:, :, None] * axes[:, None]).sum(3) / 100
    wrong = (fixes[:, :, :2] - track.state[:, :, :2]) * known / 20
    innovation = (wrong[:, :, None] * axes[:, None]).sum(3)
    spread = track.spread[:, :, :1].sqrt() / 20
    own = [fixes[:, :, 4:5] / 10, fixes[:, :, 5:] / 20, spread, known, wrong.square().sum(2, keepdim=True).clamp(max=4)]
    return torch.cat([turned, back, innovation, *own], 2)
