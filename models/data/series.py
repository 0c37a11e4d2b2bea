"""Holds checked data in memory: multi-node series or labelled images; `Raw…` is unchecked."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.findings import Finding

TIME, NODE, ROW = "time", "node", "#row"


@dataclass(frozen=True)
class Series:
    """A checked series on a regular grid; what is missing is NaN.

    time: (S,) datetime64[us], strictly rising by `cadence_min`
    values: (S, N, C) float32; channel 0 is the target
    adjacency: (N, N) float32, or None
    findings: the warnings of its check
    """

    time: NDArray[np.datetime64]
    values: NDArray[np.float32]
    nodes: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    cadence_min: float
    adjacency: NDArray[np.float32] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def slots_per_day(self) -> int:
        return round(24 * 60 / self.cadence_min)

    @property
    def missing_share(self) -> float:
        """Share of the target's values that are missing."""
        return float(np.isnan(self.values[:, :, 0]).mean())


@dataclass(frozen=True)
class Images:
    """Checked images.

    pixels: (S, C, H, W) uint8
    labels: (S,) int64, index into `classes`, -1 where unlabelled
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RawSeries:
    """An unchecked long table: `time`, `node`, one column for each channel, perhaps personal ones.

    frame: columns may be text; a `#row` column, where there is one, holds the line of the file
    nodes: fixes the set and the order of the nodes; empty: those in the frame, sorted
    adjacency: (N, N) in the order of `nodes`
    labels: what the file calls its time and its node column, for the findings
    findings: what reading already found
    """

    frame: pl.DataFrame
    nodes: tuple[str, ...] = ()
    adjacency: NDArray[np.float32] | None = None
    labels: tuple[str, str] = (TIME, NODE)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RawImages:
    """Unchecked images: pixels (S, C, H, W), labels (S,) index into `classes`.

    num_test: so many at the end are the test split, as whoever published them has laid down; 0: none are laid down
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    num_test: int = 0
