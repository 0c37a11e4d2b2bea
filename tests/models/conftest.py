"""Small real data sets as samples, for families, training and compression."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog, recipe
from models.artifact.export import export
from models.catalog import FamilyCard
from models.data.batches import ImageSamples, Samples
from models.data.card import TENSOR_KINDS, Contract, DatasetCard
from models.data.examples import Examples, ExampleSamples
from models.data.scaling import Scaler, fit_scaler, fit_tensor_scaler
from models.data.series import Images, Series
from models.data.shape import ForecastShape, ImageShape, TensorShape
from models.data.windows import windows
from models.recipe import TrainRecipe
from models.tasks.tensors import TensorTask
from models.training.build import build_network
from models.training.loop import train
from models.training.objective import TaskLoss


@dataclass(frozen=True)
class Tiny:
    """Train and validation samples of a tiny data set, with what a network is built from."""

    train: Samples
    val: Samples
    shape: ForecastShape | ImageShape | TensorShape
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


@cache
def samples_of(task: str) -> Tiny:
    """Random samples of a tensor task, as the contract of its own data set describes them."""
    contract = next(card.contract for card in catalog.datasets().values() if card.task == task)
    assert contract.target is not None
    shape, size = TensorShape(contract.inputs, contract.target), 240
    inputs = TensorTask(task, TENSOR_KINDS[task]).example_inputs(shape, size, seed=5)
    random = np.random.default_rng(6)
    num_choices = len(contract.target.labels)
    target = {
        "value": random.normal(20, 5, (size, *contract.target.shape)),
        "binary": random.random((size, *contract.target.shape)) < 0.2,
        "choice": random.integers(0, max(num_choices, 1), (size, *contract.target.shape)),
    }[TENSOR_KINDS[task]].astype(np.float32)
    examples = Examples(inputs, target, np.arange(size), {}, contract.inputs, contract.target)
    scaled = {spec.name: inputs[spec.name][:192] for spec in contract.inputs if spec.scaled}
    scaler = fit_tensor_scaler(scaled, target[:192])
    return Tiny(ExampleSamples(examples, np.arange(192)), ExampleSamples(examples, np.arange(192, 240)), shape, scaler)


def data_of(task: str, traffic: Tiny, digits: Tiny) -> Tiny:
    return {"forecast": traffic, "classify": digits}.get(task) or samples_of(task)


@pytest.fixture
def tiny(request: pytest.FixtureRequest, traffic: Tiny, digits: Tiny) -> Tiny:
    """The data for the `card` of a parametrised test."""
    card: FamilyCard = request.getfixturevalue("card")
    return data_of(card.task, traffic, digits)


def data_card(task: str) -> DatasetCard:
    return DatasetCard(name="x", task=task, title="x", source="x", licence="x", contract=Contract())


def one_epoch(card: FamilyCard) -> TrainRecipe:
    settings = {"train.num_epochs": 1, "train.batch_size": 64}
    return recipe.build(f"{card.task}/{card.name}", data_card(card.task), settings).train


@pytest.fixture(scope="session")
def exported(traffic: Tiny, digits: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[FamilyCard], Path]:
    """exported(card) -> the graph of its student, or of a baseline, after an epoch. An export costs a second: once."""
    graphs: dict[str, Path] = {}

    def graph(card: FamilyCard) -> Path:
        name = f"{card.task}/{card.name}"
        if name not in graphs:
            tiny, folder = data_of(card.task, traffic, digits), tmp_path_factory.mktemp(card.name)
            network = build_network(card, tiny.shape, card.student or card.config(), tiny.scaler, seed=1)
            train_recipe = one_epoch(card)
            objective = TaskLoss(card.task, train_recipe.loss, tiny.scaler)
            list(train(network, objective, tiny.train, tiny.val, train_recipe, folder / "run"))
            inputs = tiny.val.take(np.arange(min(64, len(tiny.val)))).inputs
            export(network, inputs, folder / "model.onnx")  # refuses where batches of 1, 2, 7 or 64 differ from eager
            graphs[name] = folder / "model.onnx"
        return graphs[name]

    return graph
