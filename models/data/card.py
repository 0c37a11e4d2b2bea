"""A data set's card: what it is, where it comes from, and the contract that it must keep."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TaskName = Literal["forecast", "classify", "regress", "localise", "detect", "route", "control"]

TensorKind = Literal["value", "binary", "choice"]
# A tensor task gives a quantity, a yes or no per entry, or one of K; forecast and classify are tasks of their own form.
TENSOR_KINDS: Mapping[str, TensorKind] = {
    "regress": "value", "localise": "value", "route": "value", "detect": "binary", "control": "choice",
}  # fmt: skip


class Frozen(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(Frozen):
    """One measured quantity of every node: its unit and the range that is physically possible."""

    name: str
    unit: str
    minimum: float | None = None
    maximum: float | None = None


class TensorSpec(Frozen):
    """One tensor of a task that is neither a series nor an image: what a sample of it looks like."""

    name: str
    shape: tuple[int, ...] = Field(description="without the batch axis")
    dtype: Literal["float32", "int64"] = "float32"
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    labels: tuple[str, ...] = Field((), description="names along the last axis: features, stations, phases, edges")
    can_miss: bool = Field(False, description="NaN, in JSON null, is allowed")
    description: str = ""
    scaled: bool = Field(True, description="z-scored per entry of the last axis before the network; False: as it is")

    @property
    def size(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)


class RoadNetwork(Frozen):
    """A directed road network, edge by edge: its name, from where to where, length and free speed."""

    edges: tuple[str, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    length_m: tuple[float, ...]
    speed_mps: tuple[float, ...]


class PersonalColumn(Frozen):
    """A column that names a person or a vehicle: pseudonymised with a key, or a position made coarse."""

    name: str
    how: Literal["pseudonym", "coarsen", "drop"] = "pseudonym"
    grid_m: float = Field(500.0, gt=0, description="cell size in metres for `coarsen`")


class Contract(Frozen):
    """What raw data must be before anything is computed from it. The first channel is the target.

    For images `channels` is empty, and `classes`, `image_shape` (C, H, W) hold instead; for the samples of a tensor
    task `inputs`, `target` and `min_samples` do.
    """

    channels: tuple[Channel, ...] = ()
    cadence_min: float | None = None
    max_missing_share: float = Field(0.2, ge=0, le=1)
    max_gap_steps: int | None = None
    min_steps: int = 200
    missing_value: float | None = None
    personal: tuple[PersonalColumn, ...] = ()
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    min_per_class: int = 10
    inputs: tuple[TensorSpec, ...] = ()
    target: TensorSpec | None = None
    min_samples: int = 50


class DatasetCard(Frozen):
    """Span, nodes, cadence, units, missing share, licence, source; and recipe settings that suit it."""

    name: str
    task: TaskName
    title: str
    source: str
    licence: str
    span: str = ""
    num_nodes: int | None = None
    missing_share: float | None = None
    contract: Contract
    node_class: Mapping[str, str] = Field(default_factory=dict, description="node -> class, for slices of the report")
    recipe: Mapping[str, Any] = Field(default_factory=dict)
