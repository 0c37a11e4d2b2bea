"""Prunes: structured removes whole units, so layers shrink; magnitude zeroes single weights.

A network that can lose units says which of its tensors share them: `prunable()` gives, by group, the places
(tensor, dimension, offset) where one unit after another lies; the size of the first place is the number of units.

Both are functions of the weights alone: after a kill the same call on the same weights gives the same network, and the
fine-tuning goes on from its checkpoint.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from models.recipe import PruneRecipe
from models.training.checkpoint import adopt

Groups = dict[str, list[tuple[str, int, int]]]


class CannotPruneError(ValueError):
    """A network that has nothing to prune."""


@runtime_checkable
class Prunable(Protocol):
    """A network that can lose units."""

    def prunable(self) -> Groups: ...


def prune_network(network: nn.Module, recipe: PruneRecipe) -> None:
    """Prune in place by the recipe's method; fine-tune afterwards, then call `make_permanent`."""
    method = prune_units if recipe.method == "structured" else prune_weights
    method(network, recipe.share)


@torch.no_grad()
def prune_units(network: nn.Module, share: float) -> None:
    """Remove the `share` of each group's units with the smallest norm; every group keeps at least one.

    Norms as in Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, summed over all tensors that share a unit
    as in Fang et al., DepGraph, CVPR 2023, each tensor's norms divided by their mean.
    Raises CannotPruneError for a network without units to remove.
    """
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, Prunable)]
    if not found:
        raise CannotPruneError(
            "structured pruning: expected a network with prunable units, got none; it is fitted, not trained"
        )
    kept: dict[tuple[str, int], Tensor] = {}
    state = dict(network.state_dict())
    for prefix, module in found:
        for places in module.prunable().values():
            full = [(f"{prefix}.{name}".lstrip("."), dim, offset) for name, dim, offset in places]
            _mark(full, state, share, kept)
    for (name, dim), keep in kept.items():
        state[name] = state[name].index_select(dim, keep.nonzero().flatten())
    adopt(network, state)


def _mark(
    places: list[tuple[str, int, int]], state: dict[str, Tensor], share: float, kept: dict[tuple[str, int], Tensor]
) -> None:
    """Mark in `kept` which indices of each tensor and dimension stay."""
    first, first_dim, _ = places[0]
    num_units = state[first].shape[first_dim]
    importance = torch.zeros(num_units, device=state[first].device)
    for name, dim, offset in places:
        if "running_" in name:  # statistics of batch normalisation say nothing about importance
            continue
        unit = (
            state[name].narrow(dim, offset, num_units).transpose(0, dim).flatten(1)
            if state[name].dim() > 1
            else state[name].narrow(0, offset, num_units)[:, None]
        )
        norm = unit.norm(dim=1)
        importance += norm / norm.mean().clamp(min=1e-12)
    num_removed = min(num_units - 1, int(num_units * share))
    removed = importance.argsort(stable=True)[:num_removed]
    for name, dim, offset in places:
        size = state[name].shape[dim]
        kept.setdefault((name, dim), torch.ones(size, dtype=torch.bool, device=removed.device))[offset + removed] = (
            False
        )


def prune_weights(network: nn.Module, share: float) -> None:
    """Zero the `share` of the smallest weights of every linear, convolutional and recurrent layer, and keep them zero.

    Han et al., Learning both Weights and Connections for Efficient Neural Networks, NeurIPS 2015.
    """
    targets = _weights(network)
    if not targets:
        raise CannotPruneError("magnitude pruning: expected layers with weights, got none")
    for module, name in targets:
        prune.l1_unstructured(module, name, amount=share)  # type: ignore[no-untyped-call]


def make_permanent(network: nn.Module) -> None:
    """Write the zeros of magnitude pruning into the weights; nothing to do after structured pruning."""
    for module, name in _weights(network):
        if hasattr(module, f"{name}_mask"):
            prune.remove(module, name)  # type: ignore[no-untyped-call]


def share_zero(network: nn.Module) -> float:
    """Share of weights of the prunable layers that are exactly zero."""
    weights = [getattr(module, name) for module, name in _weights(network)]
    return float(sum((weight == 0).sum() for weight in weights) / max(1, sum(weight.numel() for weight in weights)))


def _weights(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every (module, parameter name) whose single weights can be zeroed."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    found: list[tuple[nn.Module, str]] = [
        (module, "weight") for module in network.modules() if isinstance(module, kinds)
    ]
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            layers = range(module.num_layers)
            found += [(module, f"weight_{kind}_l{layer}") for layer in layers for kind in ("ih", "hh")]
    return found
