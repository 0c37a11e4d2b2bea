"""What a lifecycle ended with, kept by its key: a rerun that changes nothing costs seconds."""

from pathlib import Path

from flows.outcome import Outcome
from flows.prepare import prepare_key
from flows.session import lifecycle_key
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.promotion import standing
from models.recipe import Recipe


def find_outcome(shop: Workshop, recipe: Recipe) -> Outcome | None:
    """The outcome of the same recipe, data and code, as long as what it says is still so.

    A promoted model must still be live and its Bento and parcel there; a refusal holds against the same champion.
    """
    path = _path(shop, lifecycle_key(recipe, prepare_key(shop, recipe), shop.config.watermark_owner))
    if not path.exists():
        return None
    outcome = Outcome.model_validate_json(path.read_text())
    live = standing(shop.ledger.entries(recipe.product)).live
    if not outcome.promoted:
        return outcome if outcome.judged_against == (live.digest if live else None) else None
    is_whole = shop.store.has_folder(f"parcels/{outcome.model_digest}") and Path(outcome.bento_path or "").is_dir()
    return outcome if live and live.digest == outcome.model_digest and is_whole else None


def keep_outcome(shop: Workshop, key: str, outcome: Outcome) -> None:
    """Remember it."""
    write_atomic(_path(shop, key), outcome.model_dump_json(indent=1).encode())


def _path(shop: Workshop, key: str) -> Path:
    return shop.home / "work" / "lifecycle" / f"{key}.json"
