"""MNIST's files: IDX as it is, and a test split that nobody moves."""

from pathlib import Path

import numpy as np
import pytest

from models.data.findings import BadDataError
from models.data.prepare import prepare
from models.data.snapshot import read_snapshot
from models.datasets import mnist
from models.recipe import DataRecipe


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes())


def small_mnist(folder: Path) -> Path:
    """200 training and 50 test images; the first pixel of an image says which it is."""
    random = np.random.default_rng(0)
    for part, num in (("train", 200), ("t10k", 50)):
        pixels = random.integers(0, 256, (num, 28, 28))
        pixels[:, 0, 0] = np.arange(num) if part == "train" else 255 - np.arange(num)
        write_idx(folder / f"{part}-images-idx3-ubyte", pixels)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(num) % 10)
    return folder


def test_the_test_split_is_the_published_one(tmp_path: Path) -> None:
    raw = mnist.read(small_mnist(tmp_path))
    card = mnist.CARD.model_copy(update={"contract": mnist.CARD.contract.model_copy(update={"min_per_class": 10})})
    plan = DataRecipe(name="mnist", train_share=5 / 7, val_share=1 / 7)
    prepare(raw, card, plan, b"", tmp_path / "snapshot")
    snapshot = read_snapshot(tmp_path / "snapshot")
    assert {name: stop - start for name, (start, stop) in snapshot.manifest.splits.items()} == {
        "train": 160, "val": 40, "test": 50,
    }  # fmt: skip
    first = snapshot.images.pixels[slice(*snapshot.manifest.splits["test"]), 0, 0, 0]
    np.testing.assert_array_equal(first, 255 - np.arange(50))
    seen = snapshot.images.pixels[: snapshot.manifest.splits["val"][1], 0, 0, 0]
    assert sorted(seen) == list(range(200)), "every training image once, none of the test"


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = small_mnist(tmp_path) / mnist.FILES[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadDataError, match="IDX"):
        mnist.read(tmp_path)
