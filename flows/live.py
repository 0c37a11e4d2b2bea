"""What is live: from the ledger, and its parcel from the object store."""

from pathlib import Path

from flows.options import UsageError
from flows.steps import fetch_folder
from flows.workshop import Workshop
from infra.promotion import standing
from infra.refs import ModelRef


def live_products(shop: Workshop) -> list[str]:
    """The names of all products that have a live version."""
    names = {entry.product for entry in shop.ledger.entries()}
    return sorted(name for name in names if name and standing(shop.ledger.entries(name)).live)


def live_model(shop: Workshop, product: str) -> ModelRef:
    """The live version, from the ledger; raises UsageError when there is none."""
    live = standing(shop.ledger.entries(product)).live
    if live is None:
        known = ", ".join(live_products(shop)) or "none"
        raise UsageError(f"product '{product}': nothing is live; live products: {known}")
    return live


def parcel_folder(shop: Workshop, digest: str) -> Path:
    """The parcel, fetched from the object store when it is not here."""
    return fetch_folder(shop, f"parcels/{digest}")
