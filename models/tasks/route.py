"""Travel times of a network's edges in the next H slots, from which ways are planned."""

from torch import nn

from models.data.scaling import Scaler
from models.data.shape import TensorShape
from models.tasks.tensors import TensorTask


class RouteTask(TensorTask):
    """Value task in which an edge's travel times, seen and foreseen, are told as shares of its usual one.

    A street where works happen to fall into the training days must not look quieter for it than another, as it would
    if each were divided by its own spread; and 0.5 longer than usual means the same everywhere.
    """

    def wrap(self, network: nn.Module, shape: TensorShape, scaler: Scaler) -> nn.Module:
        """The module that is trained, exported and served: 0 is the usual travel time of the edge, 1 twice as much."""
        usual = tuple(mean if mean > 1e-3 else 1.0 for mean in scaler.mean)
        shares = Scaler(usual, usual)
        width = shape.output.shape[-1]
        seen = {spec.name: shares for spec in shape.inputs if spec.scaled and spec.shape[-1:] == (width,)}
        fits = len(usual) == width
        return super().wrap(network, shape, Scaler(usual, usual, {**scaler.inputs, **seen}) if fits else scaler)


TASK = RouteTask("route", "value")
