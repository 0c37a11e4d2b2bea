"""Opens, verifies and warms up one release: what a request needs, as one immutable state.

Nothing is parsed before its signature holds, and nothing is predicted before every hash matches and the golden request
is reproduced.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.crypto import seal_key
from infra.settings import ServiceSettings
from models.artifact.ensemble import MeanPredictor
from models.artifact.manifest import Manifest
from models.artifact.predictor import Predictor
from models.artifact.reader import Reader
from models.artifact.signature import read_signed, read_signed_file, trusted_keys
from models.artifact.steadiness import NUM_TRIED, num_steady_rows
from models.artifact.tensors import outputs
from models.artifact.writer import Writer, names_of
from services.batcher import Batcher
from services.schemas import Overlay, Release
from services.tracing import current, traced_run

LOG = logging.getLogger("roadworthy.serving")

RELEASE_FILE, PARCEL_FOLDER, TRUST_FOLDER = "release.json", "parcel", "trust"
SIGNATURE_FILE, RELEASE_SIGNATURE = "parcel.sig", "release.sig"
NUM_WARM_UPS = 3
SLOW_S = 0.002  # a row


class RefusedParcelError(RuntimeError):
    """The parcel is not the one that was released, or does not fit what it is to be served with."""


@dataclass(frozen=True)
class Trust:
    """What must hold for a folder to be opened; read once, so that a folder that comes later cannot vouch for itself.

    keys: public keys (PEM); None: signatures are not looked at
    """

    keys: tuple[bytes, ...] | None = None
    seal_key: bytes | None = None

    @classmethod
    def of(cls, folder: Path, settings: ServiceSettings) -> "Trust":
        """As the settings say; raises SignatureError when there are no keys to trust, KeyFileError for a bad key."""
        key = seal_key(settings.seal_key_file, settings.seal_key_command)
        if settings.signatures == "off":
            return cls(None, key)
        return cls(tuple(trusted_keys(settings.trusted_keys or folder / TRUST_FOLDER)), key)


@dataclass(frozen=True, eq=False)
class Served:
    """Everything a request needs; replaced whole, never changed.

    model_digest: the parcel's, as a header says it
    example: the body of a real request, the golden one
    """

    release: Release
    manifest: Manifest
    predictor: Predictor | MeanPredictor
    batcher: Batcher
    reader: Reader
    writer: Writer
    model_digest: bytes
    example: Any

    @property
    def name(self) -> str:
        return self.release.product

    @property
    def model_version(self) -> str:
        return f"{self.release.product}/{self.release.version}"

    async def infer(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The named output tensors of checked inputs; raises Refusal 503 when overloaded."""
        if (trace := current.get()) is None or not trace.is_recording:
            return outputs(self.manifest, await self.batcher.run(inputs))
        release = self.release
        about = (release.product, str(release.version), release.parcel_digest)
        return outputs(self.manifest, await traced_run(trace, self.batcher, inputs, *about))

    def predict(self, body: bytes, prediction_id: str) -> tuple[bytes, int]:
        """The JSON answer to a JSON body, and its number of rows, without waiting; raises wire.InputError."""
        request = self.reader.read(body)
        answered = outputs(self.manifest, self.predictor.predict(request.inputs))
        return self.writer.body(answered, request.is_list, prediction_id), request.num_rows

    def warm(self) -> None:
        """Predict a few times, so that the first client does not wait for what is made lazily."""
        body = msgspec.json.encode(self.example)
        for _ in range(NUM_WARM_UPS):
            self.predict(body, prediction_id="")

    def overlaid(self, overlay: Overlay) -> "Served":
        """The same model answering in a tenant's words; raises RefusedParcelError for names that it does not have."""
        known = {*names_of(self.manifest)}
        for name in (*overlay.labels, *overlay.thresholds):
            if name not in known:
                raise RefusedParcelError(f"overlay: expected names of {self.model_version}, got {name!r}")
        if overlay.thresholds and self.manifest.task != "classify":
            raise RefusedParcelError(f"overlay: {self.model_version} has no classes that a threshold could be for")
        return replace(self, writer=Writer(self.manifest, self.model_version, overlay.labels, overlay.thresholds))


@dataclass(frozen=True, eq=False)
class Ensemble(Served):
    """A mean of served models, itself served."""

    members: tuple[Served, ...] = ()
    weights: tuple[float, ...] = ()


BatcherOf = partial[Batcher]  # a Batcher with all but its first three arguments


def open_served(folder: Path, trust: Trust, batcher: BatcherOf) -> Served:
    """The verified, warm state of a folder with `parcel/`, `release.json` and the signatures of both.

    Raises ParcelError, SignatureError, RefusedParcelError or ValidationError when anything is not as released.
    """
    parcel, contents = folder / PARCEL_FOLDER, None
    if trust.keys is not None:
        _, contents = read_signed(parcel, folder / SIGNATURE_FILE, trust.keys)
    release = Release.model_validate_json(_release_bytes(folder, trust))
    predictor = Predictor.open(parcel, seal_key=trust.seal_key, contents=contents)
    manifest = predictor.manifest
    if manifest.digest() != release.parcel_digest:
        raise RefusedParcelError(f"parcel digest: expected {release.parcel_digest}, got {manifest.digest()}")
    assert predictor.golden is not None
    served = Served(release, manifest, predictor, **_parts(release, predictor, predictor.golden.request, batcher))
    served.warm()
    return served


def _release_bytes(folder: Path, trust: Trust) -> bytes:
    if trust.keys is None:
        return (folder / RELEASE_FILE).read_bytes()
    return read_signed_file(folder / RELEASE_FILE, folder / RELEASE_SIGNATURE, trust.keys)[1]


def open_ensemble(name: str, members: Sequence[Served], weights: Sequence[float], batcher: BatcherOf) -> Ensemble:
    """A mean of these; raises ParcelError when they are not of one contract, RefusedParcelError for nested ones."""
    parts = [one.predictor for one in members if isinstance(one.predictor, Predictor)]
    if len(parts) != len(members):
        raise RefusedParcelError(f"ensemble {name}: a member is an ensemble itself; name its members instead")
    predictor = MeanPredictor.of(name, parts, weights)
    max_body_bytes = min(one.release.max_body_bytes for one in members)
    release = Release(product=name, version=1, parcel_digest=predictor.digest(), max_body_bytes=max_body_bytes)
    ensemble = Ensemble(
        release, predictor.manifest, predictor, **_parts(release, predictor, members[0].example, batcher),
        members=tuple(members), weights=predictor.weights,
    )  # fmt: skip
    ensemble.warm()
    return ensemble


def _parts(release: Release, predictor: Predictor | MeanPredictor, example: Any, batcher: BatcherOf) -> dict[str, Any]:
    """What is made once of release and predictor."""
    manifest, reader = predictor.manifest, Reader(predictor.manifest)
    inputs = reader.read(msgspec.json.encode(example)).inputs
    started = time.perf_counter()
    predictor.predict(inputs)
    # A slow graph gains little from company, and trying it out would keep everybody waiting.
    is_slow = time.perf_counter() - started > SLOW_S
    num_rows = 1 if is_slow else num_steady_rows(predictor.predict, inputs, min(NUM_TRIED, manifest.max_batch))
    return {
        "example": example,
        "batcher": batcher(predictor.predict, manifest.max_batch, num_rows),
        "reader": reader,
        "writer": Writer(manifest, f"{release.product}/{release.version}"),
        "model_digest": release.parcel_digest.encode(),
    }
