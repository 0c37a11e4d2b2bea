"""Records what a signal controller saw on the simulated grid, and which phase it chose.

A run is a process and a part file of its own, put in place by a rename. One choice in twenty that the junctions act on
is drawn at random, so that the demonstrations also show how to come back from a mistake (the idea of DART, Laskey et
al., CoRL 2017); what is recorded is always the teacher's choice.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.sumo_grid_scenario import JUNCTIONS, LEVELS, GridScenario
from infra.sumo_junctions import OBSERVED, PHASES, Floats
from infra.sumo_rules import priority
from infra.sumo_signals import episode, recorded

FILE = "grid_signals.parquet"
FIRST_SEED = 100_000  # far from those that policies are improved, chosen and judged on
MISTAKES, KEPT = 0.05, 0.25  # share of choices drawn at random; share of decisions that are kept


def generate(scenario: Mapping[str, Any], folder: Path, num_processes: int) -> Iterator[tuple[int, int]]:
    """`num_runs` runs of `minutes`, moderate and busy in turn; (done, all) after each, then `grid_signals.parquet`.

    scenario: seed, num_runs, minutes, weights (of the teacher, see `infra.sumo_rules.priority`)
    """
    total = int(scenario["num_runs"])
    missing = [number for number in range(total) if not _part(folder, number).exists()]
    yield total - len(missing), total
    if missing:
        pool = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"))
        try:
            waiting = [pool.submit(demonstrate, dict(scenario), number, folder) for number in missing]
            for place, done in enumerate(as_completed(waiting), total - len(missing) + 1):
                done.result()
                yield place, total
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    joined = folder / f".{FILE}.tmp"
    parts = pl.concat([pl.read_parquet(_part(folder, number)) for number in range(total)])
    parts.write_parquet(joined, compression="zstd", compression_level=19)
    joined.replace(folder / FILE)


def demonstrate(scenario: Mapping[str, Any], number: int, folder: Path) -> Path:
    """One run; returns its part: the observation, the teacher's phase, run, second, and whether traffic is busy."""
    seed = FIRST_SEED + 100 * int(scenario["seed"]) + number
    level = tuple(LEVELS)[number % len(LEVELS)]
    random = np.random.default_rng(seed)
    chosen: list[NDArray[np.int64]] = []

    def policy(observation: Floats) -> NDArray[np.int64]:
        chosen.append(priority(observation, scenario["weights"]))
        slips = random.random(len(JUNCTIONS)) < MISTAKES
        return np.where(slips, random.integers(0, len(PHASES), len(JUNCTIONS)), chosen[-1])

    seen: list[Any] = []
    with redirect_stdout(sys.stderr):  # libsumo prints a warning when it is imported
        episode(GridScenario(seed, level, int(scenario["minutes"]), drain_min=5), policy=policy, seen=seen)
    rows = recorded([(second, obs, phase, free) for (second, obs, _, free), phase in zip(seen, chosen, strict=True)])
    kept = np.flatnonzero(random.random(len(rows.phase)) < KEPT)
    columns = {name: rows.observation[kept, i].astype(np.int32) for i, name in enumerate(OBSERVED)}
    columns |= {name: rows.observation[kept, OBSERVED.index(name)] for name in OBSERVED if name.startswith("released")}
    columns |= {"phase": rows.phase[kept].astype(np.int32), "time_s": rows.time_s[kept].astype(np.int32)}
    columns |= {"run": np.full(len(kept), number, np.int32), "is_busy": np.full(len(kept), level == "busy")}
    part, temporary = _part(folder, number), folder / f".run-{number:03d}.tmp"
    pl.DataFrame(columns).write_parquet(temporary)
    temporary.replace(part)
    return part


def _part(folder: Path, number: int) -> Path:
    return folder / f"run-{number:03d}.parquet"
