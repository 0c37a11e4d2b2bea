"""Turns raw data into an immutable, content-hashed snapshot.

It also says which recipe runs on which data set.
"""

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.bring import added_cards, added_folder, read_added
from flows.steps import Done, forget, key_of, once
from flows.workshop import Workshop
from infra.refs import DataRef
from models import catalog
from models.catalog import UnknownNameError
from models.data.card import DatasetCard
from models.data.findings import BadDataError
from models.data.prepare import prepare, raw_fingerprint
from models.data.series import RawImages, RawSeries
from models.data.snapshot import Snapshot, read_snapshot
from models.recipe import Recipe, build

DEFAULT_DATA = {"forecast": "oregon_counts", "classify": "digits"}
DEFAULT_RECIPE = {"forecast": "forecast/stid", "classify": "classify/cnn"}


@dataclass(frozen=True)
class Prepared:
    """A snapshot and its address."""

    ref: DataRef
    done: Done

    def snapshot(self) -> Snapshot:
        """Read and verified; raises SnapshotError."""
        return read_snapshot(self.done.folder)


def all_datasets(shop: Workshop) -> dict[str, DatasetCard]:
    """Shipped and added data sets, by name."""
    return {**catalog.datasets(), **added_cards(shop)}


def find_dataset(shop: Workshop, name: str) -> DatasetCard:
    """One data set's card; raises UnknownNameError."""
    known = all_datasets(shop)
    if name not in known:
        raise UnknownNameError("data set", name, known)
    return known[name]


def build_recipe(
    shop: Workshop, name: str, data: str | None, settings: Mapping[str, Any] | None = None, product: str = ""
) -> Recipe:
    """The whole typed recipe; without `data` the task's default data set. Raises UnknownNameError, RecipeError."""
    if name not in catalog.recipe_names():
        raise UnknownNameError("recipe", name, catalog.recipe_names())
    card = find_dataset(shop, data or DEFAULT_DATA[name.partition("/")[0]])
    return build(name, card, {"train.device": shop.config.device, **(settings or {})}, product)


def default_recipe(shop: Workshop, data: str) -> Recipe:
    """The recipe that a data set is prepared with when none is named."""
    return build_recipe(shop, DEFAULT_RECIPE[find_dataset(shop, data).task], data)


def prepare_key(shop: Workshop, recipe: Recipe) -> str:
    """What goes into a snapshot, as a key: raw files, card, the recipe's data part, masking key, code."""
    card = find_dataset(shop, recipe.data.name)
    mask = hashlib.sha256(shop.masking_key).hexdigest() if card.contract.personal else ""
    code = catalog.code_digest("data", "datasets")
    return key_of(_fingerprint(shop, card), card.model_dump(), recipe.data.model_dump(), mask, code)


def prepare_data(shop: Workshop, recipe: Recipe) -> Prepared:
    """The snapshot of the recipe's data set: made once, found again by what goes in. Raises BadDataError."""
    card = find_dataset(shop, recipe.data.name)
    key = prepare_key(shop, recipe)

    def compute(folder: Path) -> dict[str, Any]:
        manifest = prepare(read_raw(shop, card), card, recipe.data, shop.masking_key, folder, _fingerprint(shop, card))
        shop.store.put_bytes(f"snapshots/{manifest.digest}", f"steps/prepare/{key}".encode())
        return {"digest": manifest.digest, "num_rows": manifest.num_rows}

    done = once(shop, "prepare", key, compute)
    ref = DataRef(name=card.name, task=card.task, digest=done.notes["digest"], key=done.address)
    return Prepared(ref, done)


def check_dataset(shop: Workshop, name: str) -> dict[str, Any]:
    """Every finding about a data set, computed anew; a broken one is described, not raised."""
    recipe = default_recipe(shop, name)
    try:
        prepared = prepare_data(shop, recipe)
        if prepared.done.was_cached:
            forget(shop, prepared.done)
            prepared = prepare_data(shop, recipe)
        manifest = prepared.snapshot().manifest
        findings, summary = manifest.findings, f"kept its contract, {manifest.num_rows} rows"
    except BadDataError as error:
        findings, summary = error.findings, "refused"
    return {"name": name, "ok": summary != "refused", "summary": summary, "findings": [asdict(f) for f in findings]}


def read_raw(shop: Workshop, card: DatasetCard) -> RawSeries | RawImages:
    """The unchecked data behind a card."""
    if card.name in catalog.datasets():
        module = importlib.import_module(f"models.datasets.{card.name}")
        return module.read(module.fetch()[0].parent)  # type: ignore[no-any-return]
    return read_added(added_folder(shop, card.name))


def _fingerprint(shop: Workshop, card: DatasetCard) -> str:
    if card.name in catalog.datasets():
        return raw_fingerprint(importlib.import_module(f"models.datasets.{card.name}").fetch())
    return raw_fingerprint(path for path in added_folder(shop, card.name).iterdir() if path.is_file())
