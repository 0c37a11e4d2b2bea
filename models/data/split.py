"""Train, validation, test: in the order of time with a gap, or stratified with a seed."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.data.findings import BadDataError, Finding

SPLITS = ("train", "val", "test")
Splits = dict[str, tuple[int, int]]


class Plan(Protocol):
    """How to split and to cut windows; `models.recipe.DataRecipe` is one."""

    @property
    def past_steps(self) -> int: ...
    @property
    def horizon_steps(self) -> int: ...
    @property
    def train_share(self) -> float: ...
    @property
    def val_share(self) -> float: ...
    @property
    def gap_steps(self) -> int: ...
    @property
    def labelled_share(self) -> float: ...


def shares(plan: Plan) -> tuple[float, float, float]:
    """Train, val and test share; raises BadDataError when nothing is left to test on."""
    test = 1 - plan.train_share - plan.val_share
    if test < 1e-9:
        got = f"{plan.train_share:g} + {plan.val_share:g}"
        raise BadDataError([Finding("all", "data.train_share + data.val_share", "below 1", got)], "recipe")
    return plan.train_share, plan.val_share, test


def split_steps(num_steps: int, plan: Plan) -> Splits:
    """Half-open step ranges in the order of time, `gap_steps` left out between two of them.

    Raises BadDataError when a split is too short for one window.
    """
    parts, window = shares(plan), plan.past_steps + plan.horizon_steps
    usable = num_steps - 2 * plan.gap_steps
    train_stop = math.floor(usable * parts[0] + 1e-9)
    val_stop = math.floor(usable * (parts[0] + parts[1]) + 1e-9) + plan.gap_steps
    splits = {
        "train": (0, train_stop),
        "val": (train_stop + plan.gap_steps, val_stop),
        "test": (val_stop + plan.gap_steps, num_steps),
    }
    if min(stop - start for start, stop in splits.values()) < window:
        needed = math.ceil((window + 1) / min(parts)) + 2 * plan.gap_steps
        expected = (
            f"about {needed} steps, so that every split holds a window of {plan.past_steps} + {plan.horizon_steps}"
        )
        raise BadDataError([Finding("all", "time", expected, f"{num_steps} steps")])
    return splits


def split_images(
    labels: NDArray[np.int64], plan: Plan, seed: int, num_test: int = 0
) -> tuple[NDArray[np.int64], Splits]:
    """A seeded order of the images, and ranges in it, every class shared out alike.

    The last `num_test` images, where there are any, are the test split as they lie, whatever the plan's shares; those
    before them are shared out between train and val. Raises BadDataError when a class is too small for every split.
    """
    names: tuple[str, ...] = SPLITS[:2] if num_test else SPLITS
    free = shares(plan)[: len(names)]
    parts, num_free = [share / sum(free) for share in free], len(labels) - num_test
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels[:num_free] == label))
        cuts = np.floor(len(rows) * np.cumsum(parts[:-1]) + 1e-9).astype(int)
        pieces = np.split(rows, cuts)
        if min(map(len, pieces)) == 0:
            needed = math.ceil(1 / min(parts))
            raise BadDataError([Finding("all", f"class {label}", f"at least {needed} images", str(len(rows)))])
        for name, piece in zip(names, pieces, strict=True):
            chosen[name].append(piece)
    orders = {name: rng.permutation(np.concatenate(pieces)) for name, pieces in chosen.items()}
    orders |= {"test": np.arange(num_free, len(labels))} if num_test else {}
    stops = np.cumsum([len(orders[name]) for name in SPLITS])
    splits = {name: (int(stop) - len(orders[name]), int(stop)) for name, stop in zip(SPLITS, stops, strict=True)}
    return np.concatenate([orders[name] for name in SPLITS]), splits


def split_groups(groups: NDArray[np.int64], plan: Plan, seed: int | None) -> tuple[NDArray[np.int64], Splits]:
    """An order of the samples, and ranges in it, so that no group lies in two splits.

    Groups are shared out in ascending order, or shuffled by `seed`. Raises BadDataError for too few groups.
    """
    parts = shares(plan)
    names, inverse = np.unique(groups, return_inverse=True)
    place = np.arange(len(names)) if seed is None else np.random.default_rng(seed).permutation(len(names))
    cuts = np.floor(len(names) * np.cumsum(parts[:2]) + 1e-9).astype(int)
    if cuts[0] < 1 or cuts[1] <= cuts[0] or cuts[1] >= len(names):
        needed = math.ceil(1 / min(parts))
        raise BadDataError([Finding("all", "groups", f"at least {needed} of them to share out", str(len(names)))])
    rank = np.empty(len(names), np.int64)
    rank[place] = np.arange(len(names))
    order = np.argsort(rank[inverse], kind="stable")
    stops = np.searchsorted(np.sort(rank[inverse]), [*cuts, len(names)])
    starts = [0, *stops[:-1]]
    return order, {name: (int(a), int(b)) for name, a, b in zip(SPLITS, starts, stops, strict=True)}


def hide_labels(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Labels with a seeded, stratified `share` kept (at least one of each class) and the others -1."""
    rng = np.random.default_rng(seed)
    kept = np.full_like(labels, -1)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        rows = rows[: max(1, round(len(rows) * share))]
        kept[rows] = label
    return kept
