"""Trains on the folder given and kills itself with SIGKILL after some epochs. A program, run by test_loop.py."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from models import catalog
from models.data.batches import ImageSamples
from models.data.series import Images
from models.data.shape import ImageShape
from models.recipe import TrainRecipe
from models.training.build import build_network
from models.training.loop import train
from models.training.objective import TaskLoss


def run(folder: Path, kill_after: int) -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 160)
    pixels = (random.integers(0, 200, (3, 1, 8, 8))[labels] + random.integers(0, 50, (160, 1, 8, 8))).astype(np.uint8)
    images = Images(pixels, labels.astype(np.int64), ("a", "b", "c"))
    card = catalog.family("classify", "mlp")
    network = build_network(card, ImageShape(1, 8, 8, 3), card.config(width=32, dropout=0.3), seed=5)
    recipe = TrainRecipe(num_epochs=6, batch_size=32, loss="cross_entropy", optimizer="adamw", schedule="one_cycle")
    halves = ImageSamples(images, np.arange(120)), ImageSamples(images, np.arange(120, 160))
    for epoch in train(network, TaskLoss("classify", "cross_entropy"), *halves, recipe, folder):
        if epoch.number == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
