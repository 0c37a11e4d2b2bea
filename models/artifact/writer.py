"""Outputs to JSON: every float32 in its shortest exact digits.

They stand beside parts that were encoded once.

A parsed answer, read as float32, is bit for bit what the graph said and what the binary protocols carry.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact.intervals import LEVEL, LEVELS, QUANTILES
from models.artifact.manifest import Manifest

Outputs = Mapping[str, NDArray[Any]]
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_LEVEL_NAMES = np.array(LEVELS, object)


class Writer:
    """Writes the answers of one contract.

    model_version: what the answer says of itself
    labels: other names for nodes, classes or the output's labels, by the manifest's
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
        self._manifest, self._is_choice = manifest, manifest.task in ("classify", "control")
        names = [(labels or {}).get(name, name) for name in names_of(manifest)]
        self._names = np.array(names, object)
        self._needed = np.array([(thresholds or {}).get(name, 0.0) for name in manifest.classes], np.float32)
        self._labels = [orjson.dumps(name) for name in names]
        # `%` in a name would be taken for a place to fill.
        places = b",".join(label.replace(b"%", b"%%") + b":%b" for label in self._labels)
        head = b'"choice":%b' if manifest.task == "control" else b'"label":%b,"probability":%b'
        self._labelled = b"{%b" % head + b',"probabilities":{' + places + b"}}"
        self.facts = orjson.dumps(_facts(manifest, names))[1:-1]
        self._middle = b",%b,%b" % (self.facts, orjson.dumps({"model_version": model_version})[1:-1])

    def body(self, outputs: Outputs, is_list: bool, prediction_id: str, beside: Outputs | None = None) -> bytes:
        """The whole answer: one prediction, or a list of them when a list was sent.

        beside: what of `models.artifact.intervals` was asked for
        """
        more = b"" if beside is None else self._beside(beside, is_list)
        if self._manifest.threshold is not None:
            more += b',"alarms":%b' % self._alarms(outputs, is_list)
        parts = (self.predictions(outputs, is_list), more, self._middle, prediction_id.encode())
        return b'{"predictions":%b%b%b,"prediction_id":"%b"}' % parts

    def predictions(self, outputs: Outputs, is_list: bool) -> bytes:
        """Numbers [B, …] as lists; probabilities [B, K] of a choice with the likeliest."""
        (answer,) = outputs.values()
        if not self._is_choice:
            return orjson.dumps(answer if is_list else answer[0], option=_NUMPY)
        written = self._classified if self._manifest.task == "classify" else self._chosen
        rows = [written(row) for row in answer]
        return b"[%b]" % b",".join(rows) if is_list else rows[0]

    def _classified(self, shares: NDArray[np.float32]) -> bytes:
        texts = orjson.dumps(shares, option=_NUMPY)[1:-1].split(b",")
        best = int(np.where(shares >= self._needed, shares, np.float32(-1)).argmax())
        is_sure = bool(shares[best] >= self._needed[best])
        return self._labelled % (self._labels[best] if is_sure else b"null", texts[best], *texts)

    def _chosen(self, shares: NDArray[np.float32]) -> bytes:
        texts = orjson.dumps(shares, option=_NUMPY)[1:-1].split(b",")
        return self._labelled % (self._labels[int(shares.argmax())], *texts)

    def _alarms(self, outputs: Outputs, is_list: bool) -> bytes:
        """Of each row the labels whose probability reached the threshold anywhere."""
        (shares,) = outputs.values()
        reached = (shares >= np.float32(self._manifest.threshold)).reshape(len(shares), -1, shares.shape[-1])
        rows = [self._names[row.any(axis=0)].tolist() for row in reached]
        return orjson.dumps(rows if is_list else rows[0])

    def _beside(self, beside: Outputs, is_list: bool) -> bytes:
        """`,"quantiles":{…},"level_of_service":[…]`, a list of either when a list was sent."""
        parts = [b""]
        if QUANTILES in beside:
            assert self._manifest.intervals is not None
            shares = [f"{share:g}" for share in self._manifest.intervals.quantiles]
            rows: Any = [dict(zip(shares, row, strict=True)) for row in beside[QUANTILES]]
            parts.append(b'"quantiles":%b' % orjson.dumps(rows if is_list else rows[0], option=_NUMPY))
        if LEVEL in beside:
            rows = _LEVEL_NAMES[beside[LEVEL]].tolist()
            parts.append(b'"level_of_service":%b' % orjson.dumps(rows if is_list else rows[0]))
        return b",".join(parts)


def names_of(manifest: Manifest) -> tuple[str, ...]:
    """What the entries of an answer are called, which a tenant may rename."""
    return manifest.nodes or manifest.classes or (manifest.output.labels if manifest.output else ())


def _facts(manifest: Manifest, names: list[str]) -> dict[str, Any]:
    if manifest.task == "classify":
        return {"units": "probability"}
    if manifest.task == "forecast":
        minutes = [manifest.cadence_min * (step + 1) for step in range(manifest.horizon_steps)]
        return {"units": manifest.units[0], "horizon_min": minutes, "nodes": names}
    assert manifest.output is not None
    threshold = {} if manifest.threshold is None else {"threshold": manifest.threshold}
    units = "probability" if manifest.task in ("detect", "control") else manifest.output.unit
    return {"units": units, **({"labels": names} if names and manifest.task != "control" else {}), **threshold}
