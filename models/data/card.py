"""A data set's card: what it is, where it comes from, and the contract that it must keep."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(Frozen):
    """One measured quantity of every node: its unit and the range that is physically possible."""

    name: str
    unit: str
    minimum: float | None = None
    maximum: float | None = None


class PersonalColumn(Frozen):
    """A column that names a person or a vehicle: pseudonymised with a key, or a position made coarse."""

    name: str
    how: Literal["pseudonym", "coarsen", "drop"] = "pseudonym"
    grid_m: float = Field(500.0, gt=0, description="cell size in metres for `coarsen`")


class Contract(Frozen):
    """What raw data must be before anything is computed from it. The first channel is the target.

    For images `channels` is empty, and `classes`, `image_shape` (C, H, W) hold instead.
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


class DatasetCard(Frozen):
    """Span, nodes, cadence, units, missing share, licence, source; and recipe settings that suit it."""

    name: str
    task: Literal["forecast", "classify"]
    title: str
    source: str
    licence: str
    span: str = ""
    num_nodes: int | None = None
    missing_share: float | None = None
    contract: Contract
    node_class: Mapping[str, str] = Field(default_factory=dict, description="node -> class, for slices of the report")
    recipe: Mapping[str, Any] = Field(default_factory=dict)
