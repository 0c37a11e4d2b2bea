"""Makes optimisers and learning-rate schedules by recipe.

A schedule is a function of the step, so it needs no state.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.recipe import TrainRecipe


def build_optimizer(recipe: TrainRecipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) or SGD with momentum."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=recipe.momentum)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=decay)


def learning_rate(recipe: TrainRecipe, step: int, num_steps: int) -> float:
    """The rate at `step` of `num_steps`.

    cosine: from full to 1 % (SGDR, Loshchilov and Hutter 2017); one_cycle: up over the first 30 %, then cosine (Smith
    2018); step: a tenth after 60 %, a hundredth after 85 %.
    """
    share = step / max(1, num_steps)
    if recipe.schedule == "one_cycle" and share < 0.3:
        factor = 0.04 + 0.96 * share / 0.3
    elif recipe.schedule in ("cosine", "one_cycle"):
        fall = (share - 0.3) / 0.7 if recipe.schedule == "one_cycle" else share
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
    elif recipe.schedule == "step":
        factor = 1.0 if share < 0.6 else 0.1 if share < 0.85 else 0.01
    else:
        factor = 1.0
    return recipe.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors: `<parameter index>.<name>`."""
    state = optimizer.state_dict()["state"]
    slots = [(f"{index}.{name}", value) for index, named in state.items() for name, value in named.items()]
    return {key: torch.as_tensor(value).clone() for key, value in slots}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
