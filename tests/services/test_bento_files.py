"""What goes into a Bento is read from the imports of its service."""

import ast
import sys
from pathlib import Path

import pytest

from services import bento

SERVED_LIBRARIES = {"bentoml", "msgspec", "numpy", "onnxruntime", "prometheus_client", "pydantic"}


def libraries(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names += [node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("task", ["forecast", "classify"])
def test_served_files_import_nothing_that_trains_tracks_or_schedules(task: str) -> None:
    files = bento.imported_files(bento.SOURCES, f"services.{task}")
    names = [path.relative_to(bento.SOURCES).as_posix() for path in files]
    assert {f"services/{task}.py", "services/app.py", "models/artifact/wire.py"} <= set(names)
    assert "services/bento.py" not in names
    imported = set().union(*map(libraries, files))
    assert imported - SERVED_LIBRARIES - sys.stdlib_module_names == {"models", "services"}


def test_requirements_are_exact_and_whole() -> None:
    pins = bento.pinned(["uvicorn"])
    assert [pin.partition("==")[0] for pin in pins] == ["click", "h11", "uvicorn"]


def test_the_command_serves_on_loopback_and_drains() -> None:
    command = bento.serve_command(Path("b"))
    assert command[command.index("--host") + 1] == "127.0.0.1" and "--timeout-graceful-shutdown" in command
    environment = bento.serve_environment({"PATH": "p"}, Path("home"))
    assert environment["PATH"] == "p" and environment["OMP_NUM_THREADS"] == "1"
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"
