"""Opens, verifies and warms up the parcel; holds what is served as one immutable state.

Until `load()` has seen every hash match and the golden request reproduced there is no state, and nothing is predicted.
A parcel that fails is not tried again: the process stays alive to say why on `/readyz`, and serves nothing.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.artifact import wire
from models.artifact.manifest import GOLDEN_FILE, Manifest
from models.artifact.predictor import Golden, Predictor
from services.schemas import Release, openapi

LOG = logging.getLogger("roadworthy.serving")

RELEASE_FILE = "release.json"
NUM_WARM_UPS = 3


class RefusedParcelError(RuntimeError):
    """The parcel is not the one that was released."""


@dataclass(frozen=True)
class Served:
    """Everything a request needs; replaced whole, never changed."""

    release: Release
    manifest: Manifest
    predictor: Predictor
    openapi_json: bytes

    @property
    def model_version(self) -> str:
        return f"{self.release.product}/{self.release.version}"

    def predict(self, body: bytes, prediction_id: str) -> tuple[bytes, int]:
        """The JSON answer to a JSON body, and its number of rows; raises wire.InputError."""
        request = wire.parse_request(self.manifest, body)
        answer = wire.answer(self.manifest, self.predictor.predict(request.inputs), request.is_list)
        answer["model_version"] = self.model_version
        answer["prediction_id"] = prediction_id
        return msgspec.json.encode(answer), request.num_rows


class Runtime:
    """The current state of one serving process: `served`, or the `reason` why there is none."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds `parcel/` and `release.json`."""
        self._folder = folder
        self.served: Served | None = None
        self.reason = "the parcel is not loaded yet"

    def load(self) -> None:
        """Verify, warm up, then serve; on any failure stay unready, log it and keep the reason."""
        started = time.perf_counter()
        try:
            served = open_served(self._folder)
        except Exception as error:  # the service edge: whatever a broken parcel raises, it must not be served
            self.reason = f"{type(error).__name__}: {error}"
            LOG.exception("refused to serve the parcel in %s", self._folder)
            return
        self.served, self.reason = served, ""
        spent_ms = 1000 * (time.perf_counter() - started)
        LOG.info(
            "ready: %s, parcel %s, after %.0f ms", served.model_version, served.release.parcel_digest[:12], spent_ms
        )


def open_served(folder: Path) -> Served:
    """The verified, warm state of `folder`; raises when anything is not as released."""
    release = Release.model_validate_json((folder / RELEASE_FILE).read_bytes())
    parcel = folder / "parcel"
    predictor = Predictor.open(parcel)
    manifest = predictor.manifest
    if manifest.digest() != release.parcel_digest:
        raise RefusedParcelError(f"parcel digest: expected {release.parcel_digest}, got {manifest.digest()}")
    golden = msgspec.json.decode((parcel / GOLDEN_FILE).read_bytes(), type=Golden)
    document = msgspec.json.encode(openapi(manifest, release, golden.request))
    served = Served(release, manifest, predictor, document)
    for _ in range(NUM_WARM_UPS):
        served.predict(msgspec.json.encode(golden.request), prediction_id="")
    return served
