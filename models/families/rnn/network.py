"""One simple recurrent network shared by all nodes.

Its start is told the node, the slot of the day and the weekday.

Elman: Finding Structure in Time, Cognitive Science 14(2), 1990: state = tanh(W x + U state + b). Written out step by
step: exported so, int8 reaches its products.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.rnn.card import RnnConfig
from models.tasks.recurrent import Recurrent


class Layer(nn.Module):
    """One recurrent layer over steps [T, R, F]; what comes of the inputs is made for all steps at once."""

    def __init__(self, num_inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(num_inputs, width)
        self.state = nn.Linear(width, width)

    def forward(self, steps: Tensor, state: Tensor) -> Tensor:
        """steps: [T, R, F], state: [R, D]; returns the states [T, R, D]."""
        states = []
        for inputs in self.inputs(steps).unbind(0):  # [R, D]
            state = torch.tanh(inputs + self.state(state))
            states.append(state)
        return torch.stack(states)


class Rnn(Recurrent):
    """Reads each node's past and forecasts the change from its last value."""

    def __init__(self, shape: ForecastShape, config: RnnConfig) -> None:
        identities = (config.node_width, config.slot_width, config.weekday_width)
        super().__init__(shape, Layer, config.width, config.num_layers, identities)

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: units of the state, the same in every layer."""
        places = [("start.weight", 0, 0), ("start.bias", 0, 0), ("head.weight", 1, 0)]
        for layer in range(len(self.layers)):
            path = f"layers.{layer}"
            places += [(f"{path}.state.weight", 1, 0)] + ([(f"{path}.inputs.weight", 1, 0)] if layer else [])
            for name in ("inputs.weight", "inputs.bias", "state.weight", "state.bias"):
                places.append((f"{path}.{name}", 0, 0))
        return {"state": places}
