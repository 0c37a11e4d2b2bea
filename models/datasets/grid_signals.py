"""Holds demonstrations of signal control on a simulated grid, our own, free of licences.

What each junction's detectors saw when it was free to choose, and the phase that the teacher chose. Recorded by
`infra/sumo_grid.py`; the shipped file is seed 1, any other seed is simulated.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples

FILE = "grid_signals.parquet"
SIDES = ("north", "east", "south", "west")
MOVEMENTS = tuple(f"{side}{turn}" for side in SIDES for turn in ("", "_left"))
PHASES = ("north_south", "north_south_left", "east_west", "east_west_left", "north", "south", "east", "west")
OBSERVED = (
    *(f"queue_{name}" for name in MOVEMENTS),
    *(f"moving_{name}" for name in MOVEMENTS),
    *(f"far_moving_{side}" for side in SIDES),
    *(f"far_queue_{side}" for side in SIDES),
    *(f"exit_queue_{side}" for side in SIDES),
    *(f"released_{side}" for side in SIDES),
    *(f"since_served_{name}" for name in MOVEMENTS),
    *(f"waited_{name}" for name in MOVEMENTS),
    *(f"shows_{name}" for name in PHASES),
    "elapsed_s",
)
# Of the teacher: the priority index as its family's card has it.
TEACHER = (1.4, 1.08, 0.0, 0.1, 0.0, 0.0, 0.585, 0.22, 0.27, 0.0, 0.0, 0.5, 4.9, 1.6, 0.375, 0.25, 0.65)
SCENARIO: dict[str, Any] = {"kind": "grid", "seed": 1, "num_runs": 12, "minutes": 15, "weights": list(TEACHER)}

CARD = DatasetCard(
    name="grid_signals",
    task="control",
    title="Signal control on a simulated 4×4 grid, demonstrations",
    source="made by infra/sumo_grid.py with Eclipse SUMO 1.28, seed 1: 12 runs of 15 min, moderate and busy in turn",
    licence="Apache-2.0 (our own)",
    span="12 simulated runs, a decision kept in four",
    missing_share=0.0,
    contract=Contract(
        inputs=(
            TensorSpec(
                name="observation",
                shape=(len(OBSERVED),),
                minimum=0,
                maximum=100_000,
                labels=OBSERVED,
                scaled=False,
                description=(
                    "one junction: vehicles standing and rolling by movement, behind them, on the exits, on their way "
                    "from the next junction; seconds since each movement's last green, vehicle-seconds waited since; "
                    "the phase shown and its green so far in seconds"
                ),
            ),
        ),
        target=TensorSpec(name="phase", shape=(), minimum=0, maximum=len(PHASES) - 1, labels=PHASES, scaled=False),
        min_samples=1000,
    ),
    recipe={"data.train_share": 0.67, "data.val_share": 0.17},
)


def fetch() -> tuple[Path, ...]:
    """The shipped file of seed 1."""
    return (Path(__file__).parent / FILE,)


def read(folder: Path) -> RawExamples:
    """A sample for each kept decision; its run is its group, so that no run lies in two splits."""
    frame = pl.read_parquet(folder / FILE)
    observation = frame.select(OBSERVED).to_numpy().astype(np.float32)
    facts = {"is_busy": frame["is_busy"].cast(pl.Int64).to_numpy(), "time_s": frame["time_s"].cast(pl.Int64).to_numpy()}
    return RawExamples(
        {"observation": observation},
        frame["phase"].cast(pl.Float32).to_numpy(),
        groups=frame["run"].cast(pl.Int64).to_numpy(),
        facts=facts,
    )
