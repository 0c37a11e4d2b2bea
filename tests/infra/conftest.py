"""A real MLflow store, migrated once: shared where tests leave no trace, copied where they kill or serve."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import tracking_store
from infra.ledger import Ledger
from infra.registry import Registry
from infra.settings import TELEMETRY_OFF, Settings
from infra.tracking import Tracking


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HOME with an empty store, made where a killed migration had left its debris."""
    os.environ.update(TELEMETRY_OFF)
    config = Settings(home=tmp_path_factory.mktemp("template"))
    folder = config.folder / "mlflow"
    folder.mkdir()
    (folder / "mlflow.new").write_bytes(b"half a database")
    tracking_store.make_store(folder / "mlflow.db", tracking_store.artifact_folder(config))
    return config.folder


@pytest.fixture
def config(mlflow_template: Path, tmp_path: Path) -> Settings:
    """A HOME of its own with an empty store."""
    shutil.copytree(mlflow_template, tmp_path / "home")
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def tracking(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """One store for all tests: a new one costs half a second. Each test has an experiment of its own."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(mlflow_template, home)
    return Tracking(Settings(home=home))


@pytest.fixture
def registry(tracking: Tracking, tmp_path: Path) -> Iterator[Registry]:
    """The shared store with a new ledger; the registered models are removed afterwards."""
    yield Registry(tracking.config, Ledger(tmp_path / "ledger" / "ledger.jsonl"))
    for model in tracking.client.search_registered_models():
        tracking.client.delete_registered_model(model.name)
