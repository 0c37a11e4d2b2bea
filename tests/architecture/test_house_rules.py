"""The rules of the house that import contracts cannot say."""

import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("flows", "models", "services", "infra")
SOURCES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.name.endswith("_pb2.py")
)  # what protoc makes is not ours
ALL = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]


@cache
def code(path: Path) -> str:
    """The file without comments and strings."""
    with path.open("rb") as file:
        skipped = {tokenize.COMMENT, tokenize.STRING}
        return "".join(
            f"{token.string} " if token.type == tokenize.NAME else token.string
            for token in tokenize.tokenize(file.readline)
            if token.type not in skipped
        ).replace(" .", ".")


def holding(pattern: str) -> Iterator[str]:
    for path in SOURCES:
        for _ in re.finditer(pattern, code(path)):
            yield path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_opens_with_a_short_caption(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith('"""')
    assert len(first.strip('"')) <= 90


def test_there_is_one_training_loop() -> None:
    assert list(holding(r"\.backward ?\(")) == ["models/training/loop.py"]


def test_the_environment_is_read_in_one_place() -> None:
    assert set(holding(r"os\.environ|getenv")) == {"infra/settings.py"}


def test_nothing_is_pickled() -> None:
    assert list(holding(r"\b(pickle|cloudpickle|joblib|dill)\b|torch\.(load|save)\b|allow_pickle ?= ?True")) == []


def test_only_the_service_edge_catches_everything() -> None:
    caught = {path for path in holding(r"except ?:|except Exception") if not path.startswith("services/")}
    assert caught == set()


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert [path for path in ALL if path.stem in vague] == []


def test_the_server_folder_does_not_shadow_the_library() -> None:
    import mlflow

    assert not list((ROOT / "mlflow").rglob("*.py"))
    assert hasattr(mlflow, "MlflowClient")


def test_the_top_level_holds_what_it_says() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert folders - {"roadworthy.egg-info"} == {*FOLDERS, "tests", "mlflow", "bench", "docs"}


def test_every_folder_has_a_readme() -> None:
    assert [
        folder for folder in (*FOLDERS, "tests", "mlflow", "bench") if not (ROOT / folder / "README.md").exists()
    ] == []
