"""One GRU shared by all nodes; its start is told the node, the slot and the weekday.

Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio: Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation, EMNLP 2014. Written out step by step: exported so, int8 reaches
its products, and it is served several times faster than a recurrent operator of ONNX.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.gru.card import GruConfig
from models.tasks.recurrent import Recurrent

NUM_GATES = 3  # reset, update, new


class Layer(nn.Module):
    """One recurrent layer over steps [T, R, F]; the gates' inputs are made for all steps at once."""

    def __init__(self, num_inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(num_inputs, NUM_GATES * width)
        self.state = nn.Linear(width, NUM_GATES * width)

    def forward(self, steps: Tensor, state: Tensor) -> Tensor:
        """steps: [T, R, F], state: [R, D]; returns the states [T, R, D]."""
        states = []
        for inputs in self.inputs(steps).unbind(0):  # [R, 3 D]
            reset, update, new = inputs.chunk(NUM_GATES, dim=1)
            state_reset, state_update, state_new = self.state(state).chunk(NUM_GATES, dim=1)
            kept = torch.sigmoid(update + state_update)
            fresh = torch.tanh(new + torch.sigmoid(reset + state_reset) * state_new)
            state = fresh + kept * (state - fresh)
            states.append(state)
        return torch.stack(states)


class Gru(Recurrent):
    """Reads each node's past and forecasts the change from its last value."""

    def __init__(self, shape: ForecastShape, config: GruConfig) -> None:
        identities = (config.node_width, config.slot_width, config.weekday_width)
        super().__init__(shape, Layer, config.width, config.num_layers, identities)

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: units of the state, the same in every layer."""
        width = self.start.out_features
        places = [("start.weight", 0, 0), ("start.bias", 0, 0), ("head.weight", 1, 0)]
        for layer in range(len(self.layers)):
            path = f"layers.{layer}"
            places += [(f"{path}.state.weight", 1, 0)] + ([(f"{path}.inputs.weight", 1, 0)] if layer else [])
            for name in ("inputs.weight", "inputs.bias", "state.weight", "state.bias"):
                places += [(f"{path}.{name}", 0, gate * width) for gate in range(NUM_GATES)]
        return {"state": places}
