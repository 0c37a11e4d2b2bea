"""Runs a captured prediction again: the same bytes, or what differs and why it may.

The record names the parcel by its digest; parcel, ledger, data and code are looked up, not trusted. Where the numbers
differ the environments are held beside each other: other kernels give other last digits, other inputs never do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.capture import SPOOL, spools
from flows.options import UsageError
from flows.package import parcel_folder
from flows.session import CHECKOUT
from flows.workshop import Workshop
from infra.captures import environment_of, find, id_moment, moment
from infra.commit import code_commit
from infra.objects import NotThereError, StorageError
from infra.promotion import REGISTER
from infra.settings import ServiceSettings
from infra.spool import Record
from models.artifact import tensors
from models.artifact.ensemble import MeanPredictor
from models.artifact.manifest import Manifest, read_and_verify
from models.artifact.predictor import Predictor
from services.environment import differences, environment
from services.schemas import Release

EQUAL, WITHIN, DIFFERS = _VERDICTS = ("equal", "within tolerance", "differs")  # from good to bad
LOCAL = "local-"

Arrays = Mapping[str, NDArray[Any]]


class NotReproducibleError(UsageError):
    """The prediction cannot be run again; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Comparison:
    """The numbers of then and now: the largest difference, in the answer's units and as a share of its scale.

    None where there is no number: other shapes, or not-a-number on one side.
    """

    verdict: str
    max_difference: float | None
    share_of_scale: float | None
    where: str


def reproduce(shop: Workshop, prediction_id: str, *, at_commit: bool = False) -> dict[str, Any]:
    """The record of one prediction run again.

    With `at_commit` it runs under the commit that made the parcel, in a folder of its own. Raises
    NotReproducibleError, CaptureError for a malformed id, StorageError, ParcelError.
    """
    record = captured(shop, prediction_id)
    if record.masked:
        raise NotReproducibleError(
            f"prediction {prediction_id}: {', '.join(record.masked)} was masked when it was captured, so the request "
            "cannot be sent again; ROADWORTHY_SERVE_CAPTURE_MASKED says what a service masks"
        )
    predictor = opened(shop, record)
    manifests = [one.manifest for one in _members(predictor)]
    inputs = {name: one.array() for name, one in record.inputs.items()}
    raw = _predict_at_commit(shop, record, predictor, inputs) if at_commit else predictor.predict(inputs)
    again = tensors.outputs(predictor.manifest, raw)
    tolerance = max(one.golden_tolerance for one in _members(predictor))
    found = compared({name: one.array() for name, one in record.outputs.items()}, again, tolerance)
    commit, current = _listed(one.code_commit for one in manifests), code_commit(CHECKOUT)
    return {
        "prediction_id": record.prediction_id,
        "verdict": found.verdict,
        "max_difference": found.max_difference,
        "share_of_scale": found.share_of_scale,
        "tolerance": tolerance,
        "where": found.where,
        "answered_at": moment(record).isoformat(timespec="milliseconds"),
        "protocol": record.protocol,
        "tenant": record.tenant,
        "key_id": record.key_id,
        "model": _model(shop, record, manifests),
        "data": _data(shop, manifests),
        "code": {"commit": commit, "current": current, "ran_at": commit if at_commit else current},
        "environment": _environments(shop, record),
    }


def captured(shop: Workshop, prediction_id: str) -> Record:
    """The record, from a spool or the store. Raises NotReproducibleError that says why there may be none."""
    if prediction_id.startswith(LOCAL):
        raise NotReproducibleError(
            f"prediction {prediction_id}: `roadworthy predict` without --url answers in its own process and captures "
            "nothing; ask a service (--url) and take its X-Prediction-Id"
        )
    asked = id_moment(prediction_id)
    products = sorted({entry.product for entry in shop.ledger.entries() if entry.product})
    record = find(shop.store, spools(shop), prediction_id, products)
    if record is None and products:  # of a product that this ledger does not know: look at everything
        record = find(shop.store, [], prediction_id)
    if record is None:
        told = ServiceSettings()
        raise NotReproducibleError(
            f"prediction {prediction_id}, asked {asked:%Y-%m-%d %H:%M:%S} UTC: not among the captured ones of "
            f"{shop.store.uri} and {shop.home / SPOOL}. A service captures only where it has a spool, a share of its "
            f"answers (here {told.capture_share:.0%}) and at most {told.capture_per_s:g} a second; it may also not be "
            "shipped from another machine yet, or have been removed from the store"
        )
    return record


def opened(shop: Workshop, record: Record) -> Predictor | MeanPredictor:
    """The verified model, or ensemble, that answered. Raises NotReproducibleError where a parcel is gone, ParcelError.

    A tenant's overlay needs nothing here: its words are not among the tensors, and the model it chose is the record's.
    """
    if not record.members:
        return Predictor.open(_parcel(shop, f"{record.product}/{record.version}", record.parcel_digest))
    parts = [
        Predictor.open(_parcel(shop, f"{member.product}/{member.version}", member.parcel_digest))
        for member in record.members
    ]
    weights = tuple(member.weight for member in record.members)
    return replace(MeanPredictor.of(record.product, parts, weights), weights=weights)


def _parcel(shop: Workshop, name: str, digest: str) -> Path:
    try:
        folder = parcel_folder(shop, digest)
    except NotThereError as error:
        raise NotReproducibleError(
            f"{name}: its parcel {digest} is not in {shop.store.uri}; put it back from a backup, or build it again "
            "from the run in the ledger"
        ) from error
    if (found := read_and_verify(folder).digest()) != digest:
        raise NotReproducibleError(f"{folder}: expected parcel {digest}, got {found}; remove the folder")
    return folder


def _members(predictor: Predictor | MeanPredictor) -> tuple[Predictor, ...]:
    return predictor.members if isinstance(predictor, MeanPredictor) else (predictor,)


def _predict_at_commit(
    shop: Workshop, record: Record, predictor: Predictor | MeanPredictor, inputs: Arrays
) -> NDArray[np.float32]:
    from flows.at_commit import predict_at

    if record.members:
        raise NotReproducibleError(
            f"prediction {record.prediction_id}: --at-commit runs one model, and this was answered by an ensemble of "
            f"{len(record.members)}; leave it out"
        )
    return predict_at(
        CHECKOUT, predictor.manifest.code_commit, _parcel(shop, record.product, record.parcel_digest), inputs
    )


def compared(then: Arrays, now: Arrays, tolerance: float) -> Comparison:
    """The worst tensor: byte for byte equal, or by its largest difference as a share of its largest value."""
    found = [_tensor_compared(name, then.get(name), now.get(name), tolerance) for name in sorted({*then, *now})]
    return max(found, key=lambda one: (_VERDICTS.index(one.verdict), one.share_of_scale or 0.0))


def _tensor_compared(name: str, then: NDArray[Any] | None, now: NDArray[Any] | None, tolerance: float) -> Comparison:
    if then is None or now is None or then.shape != now.shape:
        shapes = ["none" if side is None else str(list(side.shape)) for side in (then, now)]
        return Comparison(DIFFERS, None, None, f"{name}: {shapes[0]} then, {shapes[1]} now")
    if then.dtype == now.dtype and then.tobytes() == now.tobytes():
        return Comparison(EQUAL, 0.0, 0.0, "")
    apart = np.abs(now.astype(np.float64) - then.astype(np.float64))
    apart = np.where(np.isnan(then) & np.isnan(now), 0.0, np.where(np.isnan(apart), np.inf, apart))
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    at = f"{name}{[int(index) for index in place]}: {float(then[place]):g} then, {float(now[place]):g} now"
    largest = float(apart[place])
    if not np.isfinite(largest):
        return Comparison(DIFFERS, None, None, at)
    share = largest / max(float(np.nan_to_num(np.abs(then)).max()), 1e-12)
    return Comparison(WITHIN if share <= tolerance else DIFFERS, largest, share, at)


def _model(shop: Workshop, record: Record, manifests: list[Manifest]) -> dict[str, Any]:
    """The model that answered; `disagreements` where its release says other than the manifest or the ledger."""
    release, manifest = _release(record), manifests[0]
    registered = [
        entry
        for entry in shop.ledger.entries(record.product)
        if entry.action == REGISTER and entry.details["digest"] == record.parcel_digest
    ]
    claims = [("data", release.data_hash, manifest.data_digest), ("code", release.code_commit, manifest.code_commit)]
    if registered:
        details = registered[-1].details
        claims += [
            ("run", release.run_id, details["run_id"]),
            ("evidence", release.evidence_digest, details["evidence"]),
        ]
    if record.members:  # an ensemble has no run and no data of its own
        claims = []
    return {
        "product": record.product,
        "version": record.version,
        "digest": record.parcel_digest,
        "family": manifest.family,
        "variant": manifest.variant,
        "run_id": release.run_id,
        "evidence": release.evidence_digest,
        "registered": registered[-1].time if registered else None,
        "members": [
            {"name": f"{one.product}/{one.version}", "digest": one.parcel_digest, "weight": one.weight}
            for one in record.members
        ],
        "disagreements": {name: [said, found] for name, said, found in claims if said != found},
    }


def _data(shop: Workshop, manifests: list[Manifest]) -> dict[str, Any]:
    """The snapshots that the model, or each member, was trained on, and whether the store has them whole."""
    return {
        "digest": _listed(one.data_digest for one in manifests),
        "present": all(_has_snapshot(shop, one.data_digest) for one in manifests),
    }


def _has_snapshot(shop: Workshop, digest: str) -> bool:
    try:  # a store says "not there" by raising, and so does a name that no store takes
        return shop.store.has_folder(shop.store.get_bytes(f"snapshots/{digest}").decode())
    except StorageError:
        return False


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _environments(shop: Workshop, record: Record) -> dict[str, Any]:
    """What answered then, what runs now, and how they differ; `then` is empty where nobody knows any more."""
    then, now = environment_of(shop.store, spools(shop), record.environment), dict(sorted(environment().items()))
    apart = differences(then, now) if then else {}
    return {"then": then, "now": now, "differences": {name: list(pair) for name, pair in apart.items()}}


def _release(record: Record) -> Release:
    try:
        return Release.model_validate_json(record.release)
    except ValidationError as error:
        raise NotReproducibleError(f"prediction {record.prediction_id}: its release record: {error}") from error
