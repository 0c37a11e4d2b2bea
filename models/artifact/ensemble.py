"""The weighted mean of several models of one contract, as one predictor."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest, ParcelError
from models.artifact.predictor import Predictor
from models.artifact.tensors import outputs

# What two models must share for one request to fit both and for their answers to be comparable.
CONTRACT = ("task", "nodes", "channels", "units", "past_steps", "horizon_steps", "cadence_min", "grid_offset_s",
            "slots_per_day", "classes", "image_shape", "inputs", "output", "network")  # fmt: skip


@dataclass(frozen=True)
class MeanPredictor:
    """Predicts the mean of its members, weighted; `weights` sum to one.

    manifest: of the first member, under the ensemble's name and with the smallest limits of all
    """

    manifest: Manifest
    members: tuple[Predictor, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, name: str, members: Sequence[Predictor], weights: Sequence[float] = ()) -> "MeanPredictor":
        """Raises ParcelError for members of different contracts, and for weights that do not fit them."""
        first = members[0].manifest
        for other in members[1:]:
            if differing := differences(first, other.manifest):
                raise ParcelError(f"ensemble {name}: expected members of one contract, got different {differing}")
        shares = tuple(weights) or (1.0,) * len(members)
        if len(shares) != len(members) or min(shares) < 0 or not sum(shares) > 0:
            raise ParcelError(f"ensemble {name}: expected {len(members)} weights of at least 0, got {list(shares)}")
        update = {
            "product": name,
            "variant": "ensemble",
            "max_batch": min(one.manifest.max_batch for one in members),
            "max_missing_share": min(one.manifest.max_missing_share for one in members),
            "intervals": None,  # calibrated for one model each, and not for their mean
        }
        return cls(first.model_copy(update=update), tuple(members), tuple(one / sum(shares) for one in shares))

    def digest(self) -> str:
        """SHA-256 over the members' digests and weights."""
        lines = [
            f"{one.manifest.digest()} {weight!r}\n" for one, weight in zip(self.members, self.weights, strict=True)
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The mean of what they give; of probabilities the logits of their mean."""
        mean: Any = np.float64(0)
        for one, weight in zip(self.members, self.weights, strict=True):
            (tensor,) = outputs(one.manifest, one.predict(inputs)).values()
            mean = mean + weight * tensor.astype(np.float64)
        with np.errstate(divide="ignore"):  # a probability of 0 stays one
            if self.manifest.task in ("classify", "control"):
                mean = np.log(mean)
            elif self.manifest.task == "detect":
                mean = np.log(mean) - np.log1p(-mean)
        answer: NDArray[np.float32] = mean.astype(np.float32)
        return answer


def differences(one: Manifest, other: Manifest) -> str:
    """The fields of the contract in which they differ, for people; empty when one request fits both."""
    return ", ".join(name for name in CONTRACT if getattr(one, name) != getattr(other, name))
