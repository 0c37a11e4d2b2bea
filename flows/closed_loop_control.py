"""Drives a signal policy's parcel on unseen traffic, beside the controllers cities have."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import infra
from flows.closed_loop import Plan, Run
from flows.options import UsageError
from infra.sumo_grid import FIRST_SEED
from infra.sumo_grid_scenario import LEVELS, GridScenario
from infra.sumo_plans import CONTROLLERS, controller
from infra.sumo_signals import CONVENTION, episode
from models.datasets import grid_signals

if TYPE_CHECKING:
    from flows.session import Session

WORK = "flows.closed_loop_control:drive_signals"
MINUTES, DRAIN_MIN = 30, 20
UNSEEN = (1000, FIRST_SEED)  # from, and before
Rows = list[tuple[str, int, str, float]]
SIMULATION = ("sumo_grid_scenario", "sumo_junctions", "sumo_signals", "sumo_plans", "sumo_rules", "sumo_tools")


def refuse_seen(seeds: Sequence[int]) -> None:
    """Raises UsageError for traffic that the controllers were tuned on, or a policy learned from."""
    if min(seeds) < UNSEEN[0] or max(seeds) >= UNSEEN[1]:
        raise UsageError(
            f"judge.closed_loop_first_seed={min(seeds)}: expected seeds from {UNSEEN[0]} to {UNSEEN[1] - 1}; on those "
            "before them controllers were tuned, from those behind them policies learn"
        )


def plan(session: "Session", candidate: str, parcel: Path, digest: str, seeds: Sequence[int]) -> Plan:
    """Every seed at every level of demand under all controllers and the candidate. UsageError for brought data."""
    name = session.recipe.data.name
    if name != grid_signals.CARD.name:
        raise UsageError(f"{name}: a policy is judged on the simulated grid; expected {grid_signals.CARD.name}")
    code, references = code_digest(), tuple(name for name in CONTROLLERS if name != candidate)
    runs = []
    for seed in seeds:
        for level in reversed(list(LEVELS)):  # the longest first, so that the cores finish together
            traffic = {"seed": seed, "level": level, "minutes": MINUTES, "drain_min": DRAIN_MIN}
            runs.append(Run(WORK, {**traffic, "name": candidate, "digest": digest}, {"parcel": str(parcel)}, code))
            runs += [Run(WORK, {**traffic, "name": name, "digest": ""}, {"parcel": ""}, code) for name in references]
    return Plan(runs, candidate, references, "mean time loss", "s", f"Counted: {CONVENTION}.")


def drive_signals(seed: int, level: str, minutes: int, drain_min: int, name: str, digest: str, parcel: str) -> Rows:
    """One episode under the parcel, or under the controller `name` where there is none."""
    scenario = GridScenario(seed, level, minutes, drain_min)
    if parcel:
        done = episode(scenario, policy=parcel_policy(Path(parcel), digest))
    else:
        done = episode(scenario, **controller(name, level))
    return [(level, seed, name, round(done.mean_time_loss_s, 4))]


@cache
def parcel_policy(parcel: Path, digest: str) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """All junctions in one batch through the predictor that serves; raises ParcelError for another parcel."""
    from models.artifact.manifest import ParcelError
    from models.artifact.predictor import Predictor

    predictor = Predictor.open(parcel)
    if predictor.manifest.digest() != digest:
        raise ParcelError(f"{parcel}: expected parcel {digest[:12]}, got {predictor.manifest.digest()[:12]}")

    def policy(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.asarray(predictor.predict({"observation": observation}).argmax(axis=1))

    return policy


def code_digest() -> str:
    """SHA-256 over what simulates signals: another line of it is another loop."""
    folder = Path(infra.__path__[0])
    digest = hashlib.sha256()
    for name in SIMULATION:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()
