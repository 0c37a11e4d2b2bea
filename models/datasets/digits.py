"""Handwritten digits, 8 × 8 pixels: small enough that the classify path runs in seconds.

The file lies inside scikit-learn, which is not imported.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from models.data.card import Contract, DatasetCard
from models.data.series import RawImages

FILE = "digits.csv.gz"
CLASSES = tuple("0123456789")
MAX_GREY = 16

CARD = DatasetCard(
    name="digits",
    task="classify",
    title="Optical recognition of handwritten digits (test part)",
    source="UCI repository, E. Alpaydin and C. Kaynak, 1998; as shipped with scikit-learn",
    licence="BSD-3-Clause (scikit-learn), CC BY 4.0 (UCI)",
    span="1 797 images by 13 writers",
    missing_share=0.0,
    contract=Contract(max_missing_share=0, classes=CLASSES, image_shape=(1, 8, 8), min_per_class=100),
    # Of 180 validation images one is more than half a percent: too coarse to choose between candidates.
    recipe={"data.train_share": 0.6, "data.val_share": 0.2},
)


def fetch() -> tuple[Path, ...]:
    """The raw file, inside the installed package; raises FileNotFoundError."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("digits needs a package: pip install scikit-learn")
    return (Path(spec.origin).parent / "datasets" / "data" / FILE,)


def read(folder: Path) -> RawImages:
    """Rows of 64 grey values 0 to 16 and the digit; grey becomes 0 to 255."""
    table = pl.read_csv(folder / FILE, has_header=False).to_numpy()
    grey = np.rint(table[:, :-1] * (255 / MAX_GREY)).clip(0, 255).astype(np.uint8)
    return RawImages(grey.reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64), CLASSES)
