"""A transformer encoder reads each node's past; its last token tells the forecast.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin: Attention Is All You Need, NeurIPS 2017. Two
deviations: layers are normalised before, not after (Xiong et al., ICML 2020), and positions are learned.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.transformer.card import TransformerConfig
from models.tasks.calendar import Identities


class Attention(nn.Module):
    """The last `num_asked` tokens look at every token, `num_heads` times over."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.answer = nn.Linear(width, width)

    def forward(self, tokens: Tensor, num_asked: int) -> Tensor:
        """tokens: [R, T, D]; returns [R, A, D]."""
        query = self.query(tokens[:, -num_asked:]).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # [R, h, A, d]
        key_value = self.key_value(tokens).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        key, value = key_value.unbind(0)  # [R, h, T, d]
        weight = torch.softmax(query @ key.transpose(2, 3) * query.shape[3] ** -0.5, dim=3)  # [R, h, A, T]
        seen: Tensor = self.answer((weight @ value).transpose(1, 2).flatten(2))
        return seen


class Layer(nn.Module):
    """x + attention(norm(x)), then x + W2 relu(W1 norm(x)), for the last `num_asked` tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.before = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.num_heads)
        self.between = nn.LayerNorm(config.width)
        self.widen = nn.Linear(config.width, config.inner_width)
        self.narrow = nn.Linear(config.inner_width, config.width)

    def forward(self, tokens: Tensor, num_asked: int) -> Tensor:
        """tokens: [R, T, D]; returns [R, A, D]."""
        tokens = tokens[:, -num_asked:] + self.attention(self.before(tokens), num_asked)
        change: Tensor = self.narrow(torch.relu(self.widen(self.between(tokens))))
        return tokens + change


class Transformer(nn.Module):
    """Forecasts the change of each node from its last value; the nodes share all layers."""

    def __init__(self, shape: ForecastShape, config: TransformerConfig) -> None:
        super().__init__()
        self.num_nodes = shape.num_nodes
        self.token = nn.Linear(shape.num_channels + 1, config.width)
        self.position = nn.Parameter(torch.empty(shape.past_steps, config.width).normal_(0, 0.1))
        self.told = Identities(shape, config.node_width, config.slot_width, config.weekday_width)
        self.place = nn.Linear(self.told.width, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the last token [B, N, D]."""
        steps = torch.cat([x, mask[..., :1]], dim=3).transpose(1, 2).flatten(0, 1)  # [B N, T, C + 1]
        place = self.place(self.told(clock)).flatten(0, 1).unsqueeze(1)  # [B N, 1, D]
        tokens = self.token(steps) + self.position + place  # [B N, T, D]
        for number, layer in enumerate(self.layers, 1):  # of the last layer, only the last token is read
            tokens = layer(tokens, tokens.shape[1] if number < len(self.layers) else 1)
        hidden = self.norm(tokens[:, -1]).unflatten(0, (-1, self.num_nodes))  # [B, N, D]
        change: Tensor = self.head(hidden)  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: the inner units of each layer."""
        return {
            f"layers.{layer}": [
                (f"layers.{layer}.widen.weight", 0, 0),
                (f"layers.{layer}.widen.bias", 0, 0),
                (f"layers.{layer}.narrow.weight", 1, 0),
            ]
            for layer in range(len(self.layers))
        }
