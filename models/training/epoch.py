"""What the loop tells of each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One pass over the train split; losses in the objective's unit, `number` from 1."""

    number: int
    train_loss: float
    val_loss: float
    learning_rate: float
    seconds: float
    is_best: bool
    num_epochs: int


def best_loss(history: Sequence[Epoch]) -> float:
    """The least validation loss so far; infinite before the first epoch."""
    return min((epoch.val_loss for epoch in history), default=float("inf"))


def epochs_since_best(history: Sequence[Epoch]) -> int:
    """Epochs that passed since validation last got better."""
    return next((since for since, epoch in enumerate(reversed(history)) if epoch.is_best), 0)
