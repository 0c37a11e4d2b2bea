"""Outputs to JSON: every float32 in its shortest exact digits.

They stand beside parts that were encoded once.

A parsed answer, read as float32, is bit for bit what the graph said and what the binary protocols carry.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact.manifest import Manifest

Outputs = Mapping[str, NDArray[np.float32]]
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Writer:
    """Writes the answers of one contract.

    model_version: what the answer says of itself
    labels: other names for nodes or classes, by the manifest's
    thresholds: probability that a class needs to become the label, by the manifest's name; the label is null where no
        class has its own
    """

    def __init__(
        self,
        manifest: Manifest,
        model_version: str = "",
        labels: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self._is_forecast = manifest.task == "forecast"
        names = [(labels or {}).get(name, name) for name in manifest.nodes or manifest.classes]
        self._needed = np.array([(thresholds or {}).get(name, 0.0) for name in manifest.classes], np.float32)
        self._labels = [orjson.dumps(name) for name in names]
        # `%` in a name would be taken for a place to fill.
        places = b",".join(label.replace(b"%", b"%%") + b":%b" for label in self._labels)
        self._labelled = b'{"label":%b,"probability":%b,"probabilities":{' + places + b"}}"
        self.facts = orjson.dumps(_facts(manifest, names))[1:-1]
        self._middle = b",%b,%b" % (self.facts, orjson.dumps({"model_version": model_version})[1:-1])

    def body(self, outputs: Outputs, is_list: bool, prediction_id: str) -> bytes:
        """The whole answer: one prediction, or a list of them when a list was sent."""
        parts = (self.predictions(outputs, is_list), self._middle, prediction_id.encode())
        return b'{"predictions":%b%b,"prediction_id":"%b"}' % parts

    def predictions(self, outputs: Outputs, is_list: bool) -> bytes:
        """forecast [B, H, N] as lists; probabilities [B, K] with their label."""
        if self._is_forecast:
            forecast = outputs["forecast"]
            return orjson.dumps(forecast if is_list else forecast[0], option=_NUMPY)
        rows = [self._classified(row) for row in outputs["probabilities"]]
        return b"[%b]" % b",".join(rows) if is_list else rows[0]

    def _classified(self, shares: NDArray[np.float32]) -> bytes:
        texts = orjson.dumps(shares, option=_NUMPY)[1:-1].split(b",")
        best = int(np.where(shares >= self._needed, shares, np.float32(-1)).argmax())
        is_sure = bool(shares[best] >= self._needed[best])
        return self._labelled % (self._labels[best] if is_sure else b"null", texts[best], *texts)


def _facts(manifest: Manifest, names: list[str]) -> dict[str, Any]:
    if manifest.task == "classify":
        return {"units": "probability"}
    minutes = [manifest.cadence_min * (step + 1) for step in range(manifest.horizon_steps)]
    return {"units": manifest.units[0], "horizon_min": minutes, "nodes": names}
