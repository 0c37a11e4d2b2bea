"""What goes into a Bento is read from the imports of its service."""

import ast
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

from packaging.utils import canonicalize_name

from models.data.card import TaskName
from services import bento

SERVED_LIBRARIES = {
    "PIL", "argon2", "bentoml", "cramjam", "cryptography", "filelock", "google", "grpc", "grpc_health",
    "grpc_reflection", "jwt", "msgspec", "networkx", "numpy", "onnxruntime", "orjson", "prometheus_client", "pydantic",
    "pydantic_settings", "uvicorn",
}  # fmt: skip
WANTED_ONLY = {"opentelemetry"}  # where a collector of traces is named; without it the process says what is missing


@cache
def libraries(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def test_served_files_import_nothing_that_trains_tracks_or_schedules() -> None:
    tasks = [f"services.{task}" for task in get_args(TaskName)]
    files = bento.served_files(bento.SOURCES, bento.PROCESS, *tasks)
    names = {path.relative_to(bento.SOURCES).as_posix() for path in files}
    assert {f"{task.replace('.', '/')}.py" for task in tasks} <= names
    assert {"services/main.py", "services/front.py", "services/page.html"} <= names
    assert {"models/artifact/wire.py", "infra/settings.py"} <= names
    assert not names & {"services/bento.py", "services/image.py", "services/router.py", "infra/containers.py"}
    imported = set().union(*(libraries(path) for path in files if path.suffix == ".py"))
    assert imported - SERVED_LIBRARIES - WANTED_ONLY - sys.stdlib_module_names == {"models", "services", "infra"}


def test_everything_that_is_served_is_required() -> None:
    required = {pin.partition("==")[0] for pin in bento.pinned(bento.SERVED)}
    files = bento.served_files(bento.SOURCES, bento.PROCESS)
    imported = set().union(*(libraries(path) for path in files if path.suffix == ".py")) & SERVED_LIBRARIES
    packages = packages_distributions()
    assert {canonicalize_name(packages[name][0]) for name in imported - {"google"}} <= required
    assert "bentoml" not in required and "bentoml" in bento.REQUIREMENTS


def test_requirements_are_exact_and_whole() -> None:
    pins = bento.pinned(["uvicorn"])
    assert [pin.partition("==")[0] for pin in pins] == ["click", "h11", "uvicorn"]


def test_the_command_serves_the_bentos_own_code_on_loopback() -> None:
    command = bento.serve_command(Path("b"), grpc_port=3001)
    assert command[1:4] == ["-P", "-m", "services.main"] and command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--folder") + 1] == "b/src" and command[-2:] == ["--grpc-port", "3001"]
    assert "--grpc-port" not in bento.serve_command(Path("b"))
    assert "--timeout-graceful-shutdown" in bento.bentoml_command(Path("b"))
    environment = bento.serve_environment({"PATH": "p"}, Path("b"), Path("home"))
    assert environment["PATH"] == "p" and environment["OMP_NUM_THREADS"] == "1"
    assert environment["PYTHONPATH"] == "b/src" and environment["BENTOML_DO_NOT_TRACK"] == "True"
