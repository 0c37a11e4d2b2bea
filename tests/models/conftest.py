"""Small real data sets as samples, for families, training and compression."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.catalog import FamilyCard
from models.data.batches import ImageSamples, Samples
from models.data.scaling import Scaler, fit_scaler
from models.data.series import Images, Series
from models.data.shape import ForecastShape, ImageShape
from models.data.windows import windows


@dataclass(frozen=True)
class Tiny:
    """Train and validation samples of a tiny data set, with what a network is built from."""

    train: Samples
    val: Samples
    shape: ForecastShape | ImageShape
    scaler: Scaler | None


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def traffic() -> Tiny:
    """Five days of 15-minute data at 4 nodes, 2 channels, a daily wave that travels, 2 % missing."""
    random = np.random.default_rng(3)
    step = np.arange(5 * 96)[:, None]
    speed = 80 + 20 * np.sin((step / 96 - np.arange(4) / 12) * 2 * np.pi) + random.normal(0, 2, (len(step), 4))
    values = np.stack([speed, 2000 - 10 * speed], axis=2).astype(np.float32)
    values[random.random(values.shape[:2]) < 0.02] = np.nan
    time = np.datetime64("2024-03-01T00:00", "us") + np.arange(len(step)) * np.timedelta64(15, "m")
    series = Series(time.astype("M8[us]"), values, tuple("abcd"), ("speed", "flow"), ("km/h", "veh/h"), 15.0)
    train, val = windows(series, (0, 384), 8, 4), windows(series, (390, 480), 8, 4)
    return Tiny(train, val, ForecastShape(8, 4, 4, 2, 96), fit_scaler(values[:384]))


@pytest.fixture(scope="session")
def digits() -> Tiny:
    """Three classes of noisy 8 x 8 patterns, every fourth image unlabelled."""
    random = np.random.default_rng(4)
    labels = random.integers(0, 3, 240)
    patterns = random.integers(0, 255, (3, 1, 8, 8))
    pixels = (patterns[labels] * 0.7 + random.integers(0, 76, (240, 1, 8, 8))).astype(np.uint8)
    labels[::4] = -1
    images = Images(pixels, labels.astype(np.int64), ("a", "b", "c"))
    shape = ImageShape(1, 8, 8, 3)
    return Tiny(ImageSamples(images, np.arange(192)), ImageSamples(images, np.arange(192, 240)), shape, None)


@pytest.fixture
def tiny(request: pytest.FixtureRequest, traffic: Tiny, digits: Tiny) -> Tiny:
    """The data for the `card` of a parametrised test."""
    card: FamilyCard = request.getfixturevalue("card")
    return traffic if card.task == "forecast" else digits
