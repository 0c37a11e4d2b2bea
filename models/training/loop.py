"""Runs the only training loop: it yields Epoch after Epoch and can be killed at any time.

Adam, AdamW or SGD, schedules, clipping, early stop on validation, a checkpoint every epoch. The caller logs.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.data.batches import Samples
from models.recipe import TrainRecipe
from models.training import checkpoint as files
from models.training.augmentation import augment
from models.training.checkpoint import Checkpoint, load_weights, read_history
from models.training.closed_form import fit_closed_form, is_closed_form
from models.training.epoch import Epoch, best_loss, epochs_since_best
from models.training.objective import mean_loss
from models.training.optimise import (
    build_optimizer,
    learning_rate,
    load_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from models.training.tensors import choose_device, tensor_batches

__all__ = ["Epoch", "load_weights", "read_history", "train"]


def train(
    network: nn.Module,
    objective: nn.Module,
    train: Samples,
    val: Samples,
    recipe: TrainRecipe,
    folder: Path,
    judge: nn.Module | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Epoch]:
    """Train `network` in place and yield every epoch trained by this call.

    objective(network, Tensors) -> loss; its own parameters, if any, are trained too (hints of distillation)
    judge: what validation is measured with, default the objective itself
    folder: resumed from its checkpoint; at the end holds weights.safetensors (best on validation) and done.json. On a
        folder that is done nothing is yielded and its weights are loaded.
    Raises CheckpointError if the folder holds another recipe's checkpoint, FloatingPointError if the loss diverges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(recipe.device)
    network.to(device)
    objective.to(device)
    if (folder / files.DONE).is_file():
        load_weights(network, folder / files.WEIGHTS)
        return
    if is_closed_form(network):
        epoch = fit_closed_form(network, judge or objective, train, val, device, clock)
        files.write_done(folder, network, (epoch,))
        yield epoch
        return
    run = _Run(network, objective, judge or objective, recipe, device)
    run.resume(folder)
    _compile(network, recipe.compile)
    while not run.is_finished:
        yield run.fit_epoch(train, val, folder, clock)
    _compile(network, False)
    network.load_state_dict(run.best)
    network.eval()
    files.write_done(folder, network, run.history)


class _Run:
    """The state between epochs: network, optimiser, best weights, history."""

    def __init__(
        self, network: nn.Module, objective: nn.Module, judge: nn.Module, recipe: TrainRecipe, device: torch.device
    ) -> None:
        self.network, self.objective, self.judge = network, objective, judge
        self.recipe, self.device = recipe, device
        self.parameters = [*network.parameters(), *objective.parameters()]
        self.optimizer = build_optimizer(recipe, self.parameters)
        self.history: tuple[Epoch, ...] = ()
        self.best: dict[str, Tensor] = {}

    @property
    def is_finished(self) -> bool:
        return len(self.history) >= self.recipe.num_epochs or epochs_since_best(self.history) >= self.recipe.patience

    def resume(self, folder: Path) -> None:
        """Continue after the folder's last whole epoch."""
        saved = files.read_checkpoint(folder, self.recipe.model_dump_json())
        if saved is None:
            return
        self.network.load_state_dict(saved.parts["model"])
        self.objective.load_state_dict(saved.parts.get("objective", {}))
        load_optimizer(self.optimizer, dict(saved.parts["optimizer"]))
        self.best = {name: value.to(self.device) for name, value in saved.parts["best"].items()}
        self.history = saved.history

    def fit_epoch(self, train: Samples, val: Samples, folder: Path, clock: Callable[[], float]) -> Epoch:
        """One pass over train, one over val, one checkpoint."""
        start, number = clock(), len(self.history) + 1
        train_loss, rate = self._pass_over(train, number)
        val_loss = mean_loss(self.network, self.judge, val, self.device)
        is_best = val_loss < best_loss(self.history)
        if is_best:
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        epoch = Epoch(number, train_loss, val_loss, rate, clock() - start, is_best, self.recipe.num_epochs)
        self.history += (epoch,)
        files.write_checkpoint(folder, self._checkpoint())
        return epoch

    def _pass_over(self, train: Samples, number: int) -> tuple[float, float]:
        """Mean train loss and the last learning rate. Order, dropout, changed images depend on (seed, epoch) alone."""
        random = np.random.default_rng([self.recipe.seed, number])
        order = random.permutation(len(train))
        torch.manual_seed(int(random.integers(2**62)))
        changes = torch.Generator().manual_seed(int(random.integers(2**62)))
        batch_size = self.recipe.batch_size
        steps_per_epoch = -(-len(train) // batch_size)
        first_step, num_steps = (number - 1) * steps_per_epoch, self.recipe.num_epochs * steps_per_epoch
        self.network.train()
        total, rate = torch.zeros((), device=self.device), 0.0
        for step, batch in enumerate(tensor_batches(train, batch_size, self.device, order), first_step):
            rate = learning_rate(self.recipe, step, num_steps)
            set_learning_rate(self.optimizer, rate)
            changed = augment(batch, self.recipe.augment, changes)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                loss: Tensor = self.objective(self.network, changed)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
            self.optimizer.step()
            total += loss.detach()
        mean = float(total) / steps_per_epoch
        if not np.isfinite(mean):
            raise FloatingPointError(
                f"epoch {number}: expected a finite train loss, got {mean}; lower train.learning_rate"
            )
        return mean, rate

    def _checkpoint(self) -> Checkpoint:
        parts = {
            "model": self.network.state_dict(),
            "best": self.best,
            "objective": self.objective.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
        }
        return Checkpoint(self.recipe.model_dump_json(), self.history, parts)


def _compile(network: nn.Module, wish: bool) -> None:
    """Compile, or give back, the `forward_hidden` of every module that has one."""
    for module in network.modules():
        if hasattr(module, "forward_hidden"):
            vars(module).pop("forward_hidden", None)
            if wish:
                eager: Callable[..., Any] = getattr(module, "forward_hidden")  # noqa: B009
                vars(module)["forward_hidden"] = torch.compile(eager)
