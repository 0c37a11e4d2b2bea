"""Turns raw data into an immutable, content-hashed snapshot.

It also says which recipe runs on which data set.
"""

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.bring import added_cards, added_folder, read_added
from flows.fetch import raw_files
from flows.options import UsageError
from flows.simulate import scenario_fingerprint, simulated
from flows.steps import Done, forget, key_of, once
from flows.workshop import Workshop
from infra.refs import DataRef
from models import catalog
from models.catalog import UnknownNameError
from models.data.card import DatasetCard
from models.data.examples import RawExamples
from models.data.findings import BadDataError
from models.data.prepare import prepare, raw_fingerprint
from models.data.series import RawImages, RawSeries
from models.data.snapshot import Snapshot, read_snapshot
from models.recipe import Recipe, build

DEFAULT_DATA = {
    "forecast": "oregon_counts", "classify": "digits", "regress": "oregon_travel_times", "localise": "city_drives",
    "detect": "freeway_incidents", "route": "city_travel_times", "control": "grid_signals",
}  # fmt: skip
DEFAULT_RECIPE = {
    "forecast": "forecast/stid", "classify": "classify/cnn", "regress": "regress/mlp", "localise": "localise/cnn_gru",
    "detect": "detect/cnn", "route": "route/mlp", "control": "control/mlp",
}  # fmt: skip
MAX_SEED = 2_000_000


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
    card = _card_under_protocol(shop, recipe)
    mask = hashlib.sha256(shop.masking_key).hexdigest() if card.contract.personal else ""
    code = catalog.code_digest("data", "datasets")
    return key_of(_fingerprint(shop, card, recipe.data.seed), card.model_dump(), recipe.data.model_dump(), mask, code)


def prepare_data(shop: Workshop, recipe: Recipe) -> Prepared:
    """The snapshot of the recipe's data set: made once, found again by what goes in. Raises BadDataError."""
    card = _card_under_protocol(shop, recipe)
    key = prepare_key(shop, recipe)

    def compute(folder: Path) -> dict[str, Any]:
        seed = recipe.data.seed
        raw, mark = read_raw(shop, card, seed), _fingerprint(shop, card, seed)
        manifest = prepare(raw, card, recipe.data, shop.masking_key, folder, mark)
        shop.store.put_bytes(f"snapshots/{manifest.digest}", f"steps/prepare/{key}".encode())
        return {"digest": manifest.digest, "num_rows": manifest.num_rows}

    done = once(shop, "prepare", key, compute)
    ref = DataRef(name=card.name, task=card.task, digest=done.notes["digest"], key=done.address)
    return Prepared(ref, done)


def _card_under_protocol(shop: Workshop, recipe: Recipe) -> DatasetCard:
    """The data set's card; the protocol `metr_la` (Li et al., DCRNN, ICLR 2018) takes a zero for a missing value."""
    card = find_dataset(shop, recipe.data.name)
    if recipe.evaluate.protocol != "metr_la" or card.contract.missing_value is not None:
        return card
    return card.model_copy(update={"contract": card.contract.model_copy(update={"missing_value": 0.0})})


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


def read_raw(shop: Workshop, card: DatasetCard, seed: int | None = None) -> RawSeries | RawImages | RawExamples:
    """The unchecked data behind a card, simulated anew where a seed is given. Raises UsageError."""
    module = _module(card)
    if module is None:
        _refuse_seed(card, seed)
        return read_added(added_folder(shop, card.name))
    scenario = _scenario(card, module, seed)
    folder = simulated(shop, scenario) if scenario else raw_files(shop, module)[0].parent
    return module.read(folder)  # type: ignore[no-any-return]


def _fingerprint(shop: Workshop, card: DatasetCard, seed: int | None = None) -> str:
    module = _module(card)
    if module is None:
        _refuse_seed(card, seed)
        return raw_fingerprint(path for path in added_folder(shop, card.name).iterdir() if path.is_file())
    scenario = _scenario(card, module, seed)
    if scenario is None:
        return raw_fingerprint(raw_files(shop, module))
    if not hasattr(module, "fetch"):
        return scenario_fingerprint(scenario)
    return key_of(scenario_fingerprint(scenario), raw_fingerprint(module.fetch()))  # some read their shipped files too


def _module(card: DatasetCard) -> ModuleType | None:
    """The module of a shipped data set, None for one that was brought."""
    return importlib.import_module(f"models.datasets.{card.name}") if card.name in catalog.datasets() else None


def _scenario(card: DatasetCard, module: ModuleType, seed: int | None) -> dict[str, Any] | None:
    """What is to be simulated; None where the shipped files are wanted. Raises UsageError for what is no simulation."""
    scenario: dict[str, Any] | None = getattr(module, "SCENARIO", None)
    if scenario is None:
        _refuse_seed(card, seed)
        return None
    if seed is None and hasattr(module, "fetch"):
        return None
    if (seed or 0) > MAX_SEED:
        raise UsageError(f"data.seed={seed}: expected 0 to {MAX_SEED}, as SUMO's own seeds are made of it")
    return {**scenario, "seed": scenario["seed"] if seed is None else seed}


def _refuse_seed(card: DatasetCard, seed: int | None) -> None:
    if seed is not None:
        simulated_ones = [name for name in catalog.datasets() if hasattr(_imported(name), "SCENARIO")]
        raise UsageError(
            f"data.seed={seed}: data set '{card.name}' is not simulated; those that are: {', '.join(simulated_ones)}"
        )


def _imported(name: str) -> ModuleType:
    return importlib.import_module(f"models.datasets.{name}")
