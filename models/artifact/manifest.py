"""What a parcel is: its contract, its lineage, and the hash of every file in it.

A parcel is a folder that travels: `model.onnx`, `golden.json`, `card.md` and `manifest.json`. The manifest is made from
inputs only, without a clock or a path, so the same weights, recipe and data give the same digest anywhere.
"""

import hashlib
import json
from collections.abc import Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from models.data.card import Frozen, RoadNetwork, TaskName, TensorSpec

MANIFEST_FILE, MODEL_FILE, GOLDEN_FILE, CARD_FILE = "manifest.json", "model.onnx", "golden.json", "card.md"
PARCEL_FILES = frozenset({MODEL_FILE, GOLDEN_FILE, CARD_FILE})
_LATER = ("inputs", "output", "means", "threshold", "network", "intervals", "levels", "protocol")

Range = tuple[float | None, float | None]


class ParcelError(ValueError):
    """A parcel that is not what its manifest says; nothing of it may be served."""


class Intervals(Frozen):
    """Quantiles around a forecast, calibrated on validation: what to add to it, by horizon step and by its own level.

    edges: [H][L - 1] rising levels of the forecast that part its L bins; offsets: [H][L][Q], in the unit of the target
    """

    quantiles: tuple[float, ...]
    edges: tuple[tuple[float, ...], ...]
    offsets: tuple[tuple[tuple[float, ...], ...], ...]


class Levels(Frozen):
    """Level of service of each node: dense below the one speed, jammed below the other, in the unit of the target."""

    dense_below: tuple[float, ...]
    jammed_below: tuple[float, ...]


class Manifest(Frozen):
    """One exported model and the contract of its requests; empty or 0 is what the other tasks do not have.

    `ranges` holds the smallest and largest value that each channel (or pixel) may take, None where there is no bound.
    `grid_offset_s` is the time of day, modulo the cadence, on which requests must lie.
    """

    format: Literal[1] = 1
    product: str
    task: TaskName
    variant: str
    family: str
    data_digest: str
    recipe_digest: str
    code_commit: str
    num_parameters: int = Field(ge=0)
    opset: int
    max_batch: int = Field(256, ge=1)
    ranges: tuple[Range, ...]
    nodes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    past_steps: int = 0
    horizon_steps: int = 0
    cadence_min: float = 0.0
    grid_offset_s: float = 0.0
    slots_per_day: int = 0
    judged_step: int = 0
    max_missing_share: float = Field(0.0, ge=0, le=1)
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    output: TensorSpec | None = None
    means: Mapping[str, tuple[float, ...]] = Field(default_factory=dict, description="train means of the inputs")
    threshold: float | None = Field(None, description="detect: from which probability on it is an alarm")
    network: RoadNetwork | None = None
    intervals: Intervals | None = None
    levels: Levels | None = None
    protocol: str = "default"
    files: Mapping[str, str]

    def canonical(self) -> bytes:
        """The one JSON form of this manifest, as it is written and hashed.

        Fields that came later are left out where they say nothing, so that older parcels keep their digest.
        """
        fields = type(self).model_fields
        silent = {name for name in _LATER if getattr(self, name) == fields[name].get_default(call_default_factory=True)}
        tree = self.model_dump(mode="json", exclude=silent)
        return json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the digest of the whole parcel, since every file's hash is in it."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @cached_property
    def node_index(self) -> dict[str, int]:
        """Column of each node."""
        return {node: column for column, node in enumerate(self.nodes)}

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest value of each channel, (C,) each; the largest float32 where there is no bound."""
        limit = float(np.finfo(np.float32).max)
        low = [-limit if minimum is None else minimum for minimum, _ in self.ranges]
        high = [limit if maximum is None else maximum for _, maximum in self.ranges]
        return np.array(low, np.float32), np.array(high, np.float32)


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write `manifest.json` beside the files that it names and return the parcel's digest."""
    (folder / MANIFEST_FILE).write_bytes(manifest.canonical())
    return manifest.digest()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that a parcel must have; raises ParcelError when one is missing."""
    missing = sorted(name for name in PARCEL_FILES if not (folder / name).is_file())
    if missing:
        raise ParcelError(f"parcel {folder.name}: {', '.join(missing)} missing")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(PARCEL_FILES)}


def read_and_verify(folder: Path) -> Manifest:
    """The manifest of a parcel whose every file has the hash that it names; raises ParcelError."""
    return read_verified(folder)[0]


def read_verified(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the very bytes that were hashed, so nothing can change between the check and the use.

    Raises ParcelError for a manifest that is none, and for a file that is missing, changed or not in the manifest.
    """
    contents = read_contents(folder)
    manifest = parse_manifest(folder, contents)
    return manifest, check_contents(folder, manifest, contents)


def read_contents(folder: Path, expected: Set[str] = PARCEL_FILES) -> dict[str, bytes]:
    """The bytes of the manifest and of exactly these files, by name, none of them checked; raises ParcelError."""
    if not (folder / MANIFEST_FILE).is_file():
        raise _refusal(folder, f"{MANIFEST_FILE} missing")
    _check_names(folder, {path.relative_to(folder).as_posix() for path in folder.rglob("*")}, expected)
    return {name: (folder / name).read_bytes() for name in sorted({MANIFEST_FILE, *expected})}


def parse_manifest(folder: Path, contents: Mapping[str, bytes]) -> Manifest:
    """The manifest among these contents; raises ParcelError for one that is none. `folder` is what a message names."""
    if MANIFEST_FILE not in contents:
        raise _refusal(folder, f"{MANIFEST_FILE} missing")
    try:  # pydantic has no other way to say that text is no manifest, and a tampered one must end as a ParcelError
        return Manifest.model_validate_json(contents[MANIFEST_FILE])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "text"
        raise _refusal(folder, f"{MANIFEST_FILE}, {place}: {first['msg']}") from error


def check_contents(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The parcel's files without the manifest, each as the manifest says; raises ParcelError."""
    if set(manifest.files) != PARCEL_FILES:
        raise _refusal(folder, f"the manifest names {sorted(manifest.files)}, expected {sorted(PARCEL_FILES)}")
    _check_names(folder, contents.keys(), PARCEL_FILES)
    for name in sorted(PARCEL_FILES):
        got = hashlib.sha256(contents[name]).hexdigest()
        if got != manifest.files[name]:
            raise _refusal(folder, f"{name} was changed: expected SHA-256 {manifest.files[name]}, got {got}")
    return {name: contents[name] for name in sorted(PARCEL_FILES)}


def _check_names(folder: Path, present: Set[str], expected: Set[str]) -> None:
    if missing := sorted(expected - present):
        raise _refusal(folder, f"{', '.join(missing)} missing")
    if extra := sorted(present - expected - {MANIFEST_FILE}):
        raise _refusal(folder, f"{', '.join(extra)} not in the manifest")


def _refusal(folder: Path, reason: str) -> ParcelError:
    return ParcelError(f"parcel {folder.name}: {reason}; it is not opened")
