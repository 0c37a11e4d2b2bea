"""Is it the same? Golden requests of live products, answered now and at the backup."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from flows.live import parcel_folder
from flows.reproduce import DIFFERS, compared
from flows.workshop import Workshop
from infra.backup import Answer, Count
from infra.ledger import Entry
from infra.promotion import standing
from infra.refs import ModelRef
from models.artifact import wire
from models.artifact.predictor import Predictor


def live_answers(shop: Workshop, entries: Sequence[Entry]) -> dict[str, Answer]:
    """What each model that is live after these entries answers to its golden request, as it would be served."""
    products = sorted({entry.product for entry in entries if entry.product})
    live = {name: standing(entry for entry in entries if entry.product == name).live for name in products}
    return {name: answer(shop, ref) for name, ref in live.items() if ref}


def answer(shop: Workshop, ref: ModelRef) -> Answer:
    """What this version answers to its golden request. Raises ParcelError, NotThereError."""
    predictor = Predictor.open(parcel_folder(shop, ref.digest))
    assert predictor.golden is not None, "an opened parcel has tried its golden request"
    request = wire.parse_request(predictor.manifest, msgspec.json.encode(predictor.golden.request))
    raw = predictor.predict(request.inputs)
    return Answer(
        version=ref.version, digest=ref.digest, shape=raw.shape, values=tuple(raw.ravel().tolist()),
        tolerance=predictor.golden_tolerance,
    )  # fmt: skip


def compare_answers(shop: Workshop, then: dict[str, Answer]) -> list[dict[str, Any]]:
    """One row per live product: equal, within tolerance, or how it differs."""
    rows = []
    for product, old in then.items():
        new = answer(shop, ModelRef(product=product, version=old.version, digest=old.digest))
        found = compared({"answer": _array(old)}, {"answer": _array(new)}, old.tolerance)
        row = {"product": product, "version": old.version, "verdict": found.verdict, "where": found.where}
        rows.append({**row, "max_difference": found.max_difference, "ok": found.verdict != DIFFERS})
    return rows


def compare_ids(database: str, then: dict[str, Count], now: dict[str, Count]) -> list[dict[str, Any]]:
    """One row per kind of id: how many there were, how many there are, and whether all of them are the same."""
    return [
        {
            "database": database,
            "ids": kind,
            "then": old.num,
            "now": now[kind].num if kind in now else 0,
            "ok": now.get(kind) == old,
        }
        for kind, old in then.items()
    ]


def _array(one: Answer) -> Any:
    return np.array(one.values, np.float32).reshape(one.shape)
