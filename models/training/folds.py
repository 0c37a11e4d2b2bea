"""k-fold evidence: how much a result depends on which part of the data was held back.

Blocked in time for forecasts, with a gap on both sides of the block (Bergmeir and Benitez 2012); stratified by class
for images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import nn

from models.data.batches import Batch, Indices, Samples, batches
from models.recipe import TrainRecipe
from models.training.checkpoint import read_history
from models.training.epoch import best_loss
from models.training.loop import train


@dataclass(frozen=True)
class FoldResult:
    """The best validation loss of one fold, in the objective's unit; `number` from 1."""

    number: int
    val_loss: float
    num_train: int
    num_val: int
    num_folds: int


@dataclass(frozen=True)
class Subset:
    """Some samples of others."""

    samples: Samples
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> Batch:
        return self.samples.take(self.rows[indices])


def time_blocks(num_samples: int, num_folds: int, gap: int) -> Iterator[tuple[Indices, Indices]]:
    """(train, held back) indices: contiguous blocks, `gap` samples beside the block in neither."""
    edges = np.linspace(0, num_samples, num_folds + 1).round().astype(np.int64)
    every = np.arange(num_samples)
    for start, stop in pairwise(edges):
        yield every[(every < start - gap) | (every >= stop + gap)], every[start:stop]


def stratified(labels: Indices, num_folds: int, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """(train, held back) indices, every class shared out alike; unlabelled samples (-1) are always in train."""
    random = np.random.default_rng(seed)
    fold = np.full(len(labels), -1)
    first = 0
    for label in np.unique(labels[labels >= 0]):
        rows = random.permutation(np.flatnonzero(labels == label))
        fold[rows] = (first + np.arange(len(rows))) % num_folds
        first += len(rows)
    for number in range(num_folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def split_folds(task: str, samples: Samples, recipe: TrainRecipe, gap: int) -> Iterator[tuple[Indices, Indices]]:
    """The folds of a task's samples. Raises ValueError when there are fewer samples than folds need."""
    if recipe.num_folds < 2 or len(samples) < 2 * recipe.num_folds:
        raise ValueError(f"train.num_folds: expected 2 to {len(samples) // 2} folds, got {recipe.num_folds}")
    if task == "forecast":
        return time_blocks(len(samples), recipe.num_folds, gap)
    taken = list(batches(samples, 1024))
    labels = np.concatenate([np.where(batch.target_mask > 0, batch.target, -1) for batch in taken])
    return stratified(labels, recipe.num_folds, recipe.seed)


def cross_validate(
    task: str,
    build: Callable[[], nn.Module],
    objective: nn.Module,
    samples: Samples,
    recipe: TrainRecipe,
    folder: Path,
    gap: int = 24,
) -> Iterator[FoldResult]:
    """Train a fresh network per fold through the one loop and yield each fold's result; resumable like it.

    gap: samples left out beside a held-back block; a window's past plus horizon, so that no value is in both
    """
    for number, (rows, held_back) in enumerate(split_folds(task, samples, recipe, gap), 1):
        place = folder / f"fold_{number}"
        list(train(build(), objective, Subset(samples, rows), Subset(samples, held_back), recipe, place))
        val_loss = best_loss(read_history(place))
        yield FoldResult(number, val_loss, len(rows), len(held_back), recipe.num_folds)
