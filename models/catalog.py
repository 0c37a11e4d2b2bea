"""What exists: families, data sets and recipes, found by looking in the folders.

A new family is a folder, a new data set is a file; no list is edited. Cards import neither torch nor each other, so
`roadworthy catalog` answers at once.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.data.card import DatasetCard

# What each task answers, and its shapes: B batch, T past steps, H horizon, N nodes, C channels, K classes, F features,
# E edges, P pixels of a map.
TASKS: dict[str, tuple[str, str]] = {
    "forecast": ("The next H steps of one quantity at N sensors", "x [B, T, N, C], mask, clock [B, 2] → [B, H, N]"),
    "classify": ("Which of K classes an image shows", "x [B, C, H, W] → [B, K]"),
    "regress": ("One quantity of a row of a table", "x [B, F] → [B, 1]"),
    "localise": ("Where a vehicle is, by its last T fixes and a map", "fixes [B, T, F], patch [B, 1, P, P] → [B, 2]"),
    "detect": ("At which of N stations an incident disturbs traffic", "x [B, T, N, C] → [B, N]"),
    "route": (
        "Travel times of E edges, from which routes are planned",
        "recent [B, T, E], works [B, H, E], slot [B, 1], weekday [B, 1] → [B, H, E]",
    ),
    "control": ("Which of K phases a signalised junction shows next", "observation [B, F] → [B, K]"),
}


class UnknownNameError(LookupError):
    """A name that the catalog does not know; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} '{name}'; known: {', '.join(sorted(known)) or 'none'}")


class FamilyConfig(BaseModel):
    """Base of every family's hyperparameters: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class FamilyCard:
    """What a model family is, without importing its network.

    `network` is "module:Class"; the class is an `nn.Module` built as `Class(shape, config)`.
    `student` is the configuration of the small network distilled from this family; None means it is never distilled.
    `recipe` holds dotted recipe settings that differ from the defaults, e.g. {"train.num_epochs": 20}.
    `gate` says what a candidate owes to this baseline: "beat" it, be "not_worse", or nothing: it is only shown.
    `measured` says by which measurement the defaults were chosen.
    `search` holds the values of student settings that the compression search tries, e.g. {"width": (16, 32, 64)}.
    """

    name: str
    task: str
    title: str
    source: str
    network: str
    config: type[FamilyConfig] = FamilyConfig
    student: FamilyConfig | None = None
    is_baseline: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)
    gate: Literal["beat", "not_worse", ""] = ""
    search: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    measured: str = ""

    def load(self) -> type[Any]:
        """The network class; imports torch."""
        module, _, name = self.network.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def all_families() -> dict[str, FamilyCard]:
    """Every folder of `models/families` that has a card, by `task/name`, sorted."""
    package = importlib.import_module("models.families")
    folders = [Path(path) for path in package.__path__]
    names = [
        info.name
        for info in pkgutil.iter_modules(package.__path__)
        if info.ispkg and any((folder / info.name / "card.py").is_file() for folder in folders)
    ]
    cards = [importlib.import_module(f"models.families.{name}.card").CARD for name in names]
    return {f"{card.task}/{card.name}": card for card in sorted(cards, key=lambda card: (card.task, card.name))}


def families(task: str) -> dict[str, FamilyCard]:
    """The families of one task, by their name in it."""
    return {card.name: card for card in all_families().values() if card.task == task}


def family(task: str, name: str) -> FamilyCard:
    """One family's card; raises UnknownNameError."""
    known = families(task)
    if name not in known:
        raise UnknownNameError(f"{task} family", name, known)
    return known[name]


def datasets() -> dict[str, DatasetCard]:
    """Every shipped data set (`models/datasets/*.py` with a CARD), by name."""
    package = importlib.import_module("models.datasets")
    names = (info.name for info in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"models.datasets.{name}") for name in names]
    return {module.CARD.name: module.CARD for module in modules if hasattr(module, "CARD")}


def recipe_names() -> list[str]:
    """`task/family` of every family, sorted."""
    return sorted(all_families())


def code_digest(*folders: str) -> str:
    """SHA-256 over the Python files of these folders of `models/` (all of it when none is named).

    Goes into every cache key, so a change of code is a change of result.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    files = sorted(path for folder in folders or (".",) for path in (root / folder).rglob("*.py"))
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
