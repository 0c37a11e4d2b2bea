"""Samples of a tensor task: named input arrays and one target, checked.

For what is neither a multi-node series nor an image: tables, tracks, windows of one junction, edges of a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.batches import Batch, Indices
from models.data.card import Contract, RoadNetwork, TensorSpec
from models.data.findings import Finding, found_at, refuse

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RawExamples:
    """Unchecked samples, S of them.

    inputs: by name, (S, *shape); target: (S, *shape) float32, NaN where unknown
    groups: (S,) int64; samples of one group (a drive, a day, a simulated run) never lie in two splits, and groups are
        shared out in ascending order. None: every sample on its own, shared out by a seeded shuffle
    facts: by name, (S,); what judging may look at and a network never sees
    specs, target_spec: where they depend on the data; else those of the contract
    network: the roads that the tensors speak of, if any
    """

    inputs: Arrays
    target: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    facts: Arrays = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    specs: tuple[TensorSpec, ...] = ()
    target_spec: TensorSpec | None = None
    network: RoadNetwork | None = None


@dataclass(frozen=True)
class Examples:
    """Checked samples in the order of their splits; see `RawExamples`."""

    inputs: Arrays
    target: NDArray[np.float32]
    groups: NDArray[np.int64]
    facts: Arrays
    specs: tuple[TensorSpec, ...]
    target_spec: TensorSpec
    network: RoadNetwork | None = None
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    def reordered(self, order: Indices) -> "Examples":
        """The same samples, sample `order[i]` at place i."""
        return Examples(
            {name: array[order] for name, array in self.inputs.items()},
            self.target[order],
            self.groups[order],
            {name: array[order] for name, array in self.facts.items()},
            self.specs,
            self.target_spec,
            self.network,
            self.findings,
        )


@dataclass(frozen=True)
class ExampleSamples:
    """The samples `rows` of a data set."""

    examples: Examples
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> Batch:
        """A batch: inputs by name [B, *shape], NaN where missing; target [B, *shape], 0 where unknown, and its mask."""
        rows = self.rows[indices]
        inputs = {spec.name: self.examples.inputs[spec.name][rows] for spec in self.examples.specs}
        target = self.examples.target[rows]
        known = ~np.isnan(target)
        return Batch(inputs, np.where(known, target, np.float32(0)), known.astype(np.float32))

    def all_targets(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The whole target (S, *shape), 0 where unknown, and its mask."""
        batch_target = self.examples.target[self.rows]
        known = ~np.isnan(batch_target)
        return np.where(known, batch_target, np.float32(0)), known.astype(np.float32)

    def fact(self, name: str) -> NDArray[Any]:
        """A fact of every sample, in order; raises KeyError."""
        return self.examples.facts[name][self.rows]

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group of every sample, in order."""
        return self.examples.groups[self.rows]


def check_examples(raw: RawExamples, contract: Contract) -> Examples:
    """The raw samples, warnings in `.findings`; raises BadDataError.

    Checks names, shapes, types, ranges, infinities, what is missing and what must not be, and the number of samples.
    """
    specs, target_spec = raw.specs or contract.inputs, raw.target_spec or contract.target
    findings = list(raw.findings)
    if target_spec is None or not specs:
        findings.append(Finding("contract", "all", "inputs and a target", "none"))
    refuse(findings)
    assert target_spec is not None
    size = len(raw.target)
    if size < contract.min_samples:
        findings.append(Finding("all", "all", f"at least {contract.min_samples} samples", str(size)))
    for name in sorted({spec.name for spec in specs} ^ set(raw.inputs)):
        findings.append(Finding("all", name, f"inputs {', '.join(s.name for s in specs)}", ", ".join(raw.inputs)))
    refuse(findings)
    for spec in specs:
        findings += _check(spec, raw.inputs[spec.name], size, contract.max_missing_share)
    findings += _check(target_spec.model_copy(update={"can_miss": True}), raw.target, size, 1.0)
    for name, array in [*raw.facts.items(), *([("groups", raw.groups)] if raw.groups is not None else [])]:
        if len(array) != size:
            findings.append(Finding("all", name, f"{size} values, one for each sample", str(len(array))))
    if np.isnan(raw.target).all():
        findings.append(Finding("all", target_spec.name, "samples whose target is known", "none"))
    refuse(findings)
    groups = np.arange(size) if raw.groups is None else raw.groups.astype(np.int64)
    inputs = {spec.name: np.ascontiguousarray(raw.inputs[spec.name], np.dtype(spec.dtype)) for spec in specs}
    target = np.ascontiguousarray(raw.target, np.float32)
    kept = tuple(dict.fromkeys(findings))
    return Examples(inputs, target, groups, dict(raw.facts), specs, target_spec, raw.network, kept)


def _check(spec: TensorSpec, array: NDArray[Any], size: int, max_missing_share: float) -> list[Finding]:
    """Everything that one tensor breaks."""
    if array.shape != (size, *spec.shape):
        return [Finding("all", spec.name, f"shape {(size, *spec.shape)}", str(array.shape))]
    if spec.dtype == "int64" and array.dtype.kind not in "iu":
        return [Finding("all", spec.name, "whole numbers", str(array.dtype))]
    values = array.astype(np.float64).reshape(size, -1)
    missing = np.isnan(values)
    low = -np.inf if spec.minimum is None else spec.minimum
    high = np.inf if spec.maximum is None else spec.maximum
    findings = []
    wrong = np.isinf(values) | (values < low) | (values > high)
    for bad, expected in ((wrong, f"{low:g} to {high:g} {spec.unit}".rstrip()), (missing, "a number")):
        if bad.any() and not (expected == "a number" and spec.can_miss):
            places = np.argwhere(bad)
            shown = ((f"sample {i + 1}", _place(spec, int(j)), f"{values[i, j]:g}") for i, j in places)
            findings += found_at(shown, len(places), expected)
    if spec.can_miss and missing.mean() > max_missing_share:
        expected = f"at most {max_missing_share:.1%} missing"
        findings.append(Finding("all", spec.name, expected, f"{missing.mean():.1%}"))
    return findings


def _place(spec: TensorSpec, flat: int) -> str:
    """`fixes[3][1]`, or with labels `x[3] (speed)`."""
    index = [int(i) for i in np.unravel_index(flat, spec.shape)] if spec.shape else []
    if spec.labels:
        return f"{spec.name}{''.join(f'[{i}]' for i in index[:-1])} ({spec.labels[index[-1]]})"
    return spec.name + "".join(f"[{i}]" for i in index)
