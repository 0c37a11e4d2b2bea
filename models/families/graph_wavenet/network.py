"""Gated dilated convolutions over time, and diffusion over given and learned neighbours.

Wu, Pan, Long, Jiang, Zhang: Graph WaveNet for Deep Spatial-Temporal Graph Modeling, IJCAI 2019. Deviations: the mask is
an input, node and calendar are told to the end (as STID does), the output is a change from the last value, the layers
are as many as the past needs, and there is no batch normalisation.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.graph_wavenet.card import GraphWavenetConfig
from models.tasks.calendar import Identities
from models.tasks.links import Links


def dilations(past_steps: int) -> list[int]:
    """1, 2, 4, …, the last one cut, so that two taps a layer see exactly `past_steps` steps."""
    found: list[int] = []
    while (left := past_steps - 1 - sum(found)) > 0:
        found.append(min(1 << len(found), left))
    return found


class Layer(nn.Module):
    """tanh(a) sigmoid(b) of a step and the one `dilation` before it, then diffusion over the supports."""

    def __init__(self, config: GraphWavenetConfig, dilation: int, num_supports: int) -> None:
        super().__init__()
        self.dilation, self.num_diffusions = dilation, config.diffusion_steps
        self.gate = nn.Linear(2 * config.width, 2 * config.gate_width)
        self.skip = nn.Linear(config.gate_width, config.skip_width)
        self.mix = nn.Linear(config.gate_width * (1 + num_supports * config.diffusion_steps), config.width)

    def forward(self, stream: Tensor, supports: list[Tensor]) -> tuple[Tensor, Tensor]:
        """stream: [B, T, N, D]; returns the shorter stream [B, T - dilation, N, D] and the skip of its last step."""
        now, before = stream[:, self.dilation :], stream[:, : -self.dilation]
        gate = self.gate(torch.cat([before, now], dim=3))
        width = gate.shape[3] // 2
        gated = torch.tanh(gate[..., :width]) * torch.sigmoid(gate[..., width:])  # [B, T', N, G]
        seen = [gated]
        for support in supports:
            diffused = gated
            for _ in range(self.num_diffusions):
                diffused = support @ diffused
                seen.append(diffused)
        mixed: Tensor = self.mix(torch.cat(seen, dim=3))
        return now + mixed, self.skip(gated[:, -1])


class GraphWavenet(nn.Module):
    """Forecasts the change of each node from its last value."""

    def __init__(self, shape: ForecastShape, config: GraphWavenetConfig) -> None:
        super().__init__()
        self.links = Links(shape, config.link_width, has_learned=True)
        self.told = Identities(shape, config.node_width, config.slot_width, config.weekday_width)
        self.inputs = nn.Linear(shape.num_channels + 1, config.width)
        steps = dilations(shape.past_steps)
        self.layers = nn.ModuleList(Layer(config, dilation, self.links.num_supports) for dilation in steps)
        self.place = nn.Linear(self.told.width, config.skip_width)
        self.last = nn.Linear(config.width, config.skip_width)
        self.end = nn.Linear(config.skip_width, config.end_width)
        self.head = nn.Linear(config.end_width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the state before the head [B, N, D]."""
        supports = self.links()
        stream = self.inputs(torch.cat([x, mask[..., :1]], dim=3))  # [B, T, N, D]
        total = self.place(self.told(clock))  # [B, N, S]
        for layer in self.layers:
            stream, skip = layer(stream, supports)
            total = total + skip
        total = total + self.last(stream[:, -1])  # what the last diffusion found
        hidden = torch.relu(self.end(torch.relu(total)))  # [B, N, D]
        change: Tensor = self.head(hidden)  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: gates of each layer, skip, end."""
        groups = {
            "skip": [(f"{name}.{kind}", 0, 0) for name in ("place", "last") for kind in ("weight", "bias")],
            "end": [("end.weight", 0, 0), ("end.bias", 0, 0), ("head.weight", 1, 0)],
        }
        groups["skip"].append(("end.weight", 1, 0))
        for number, layer in enumerate(map(_as_layer, self.layers)):
            path, width = f"layers.{number}", layer.gate.out_features // 2
            groups["skip"] += [(f"{path}.skip.weight", 0, 0), (f"{path}.skip.bias", 0, 0)]
            groups[path] = [(f"{path}.skip.weight", 1, 0)]
            groups[path] += [(f"{path}.gate.{kind}", 0, half * width) for half in (0, 1) for kind in ("weight", "bias")]
            num_parts = 1 + self.links.num_supports * layer.num_diffusions
            groups[path] += [(f"{path}.mix.weight", 1, part * width) for part in range(num_parts)]
        return groups


def _as_layer(module: nn.Module) -> Layer:
    assert isinstance(module, Layer)
    return module
