"""Simulated freeway rush hours with and without incidents: which segment is blocked.

Made with SUMO by `infra/sumo_incidents.py`. The runs to learn from and to choose the alarm's threshold on are shipped
and always the same; `data.seed` draws the runs of the test split anew: a model is judged on traffic that it never saw.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples

TRAFFIC, INCIDENTS = "incident_traffic.parquet", "incident_list.parquet"
LEARNING_TRAFFIC, LEARNING_INCIDENTS = "incident_learning_traffic.parquet", "incident_learning_list.parquet"
NUM_TRAIN, NUM_VAL, NUM_TEST = 32, 12, 12
FIRST_TEST_RUN = 1000  # test runs are numbered from here, so that they come last
STATIONS = tuple(f"S{number:02d}" for number in range(1, 11))
CHANNELS = ("speed_kmh", "flow_vph", "occupancy_pct")
PAST_MIN = 15
ONSET_GREY_MIN = 1.0  # the minute of the onset is only partly disturbed: neither yes nor no
CLEARED_GREY_MIN = 5.0  # nor are the minutes in which traffic starts again
NEAR_SEGMENTS = 1  # nor are the neighbours of a blocked segment: an alarm there is as good

SCENARIO: dict[str, Any] = {"kind": "incidents", "seed": 1, "num_runs": NUM_TEST}

CARD = DatasetCard(
    name="freeway_incidents",
    task="detect",
    title="Simulated rush hours with incidents on one or two lanes",
    source="SUMO 1.28, microscopic; seeded script infra/sumo_incidents.py; simulated, not measured",
    licence="Apache-2.0",
    span=f"{NUM_TRAIN + NUM_VAL + NUM_TEST} runs of two hours, every minute",
    num_nodes=len(STATIONS),
    missing_share=0.0,
    contract=Contract(
        inputs=(
            TensorSpec(
                name="x",
                shape=(PAST_MIN, len(STATIONS), len(CHANNELS)),
                minimum=0,
                maximum=12_000,
                labels=CHANNELS,
                can_miss=True,
                description="the last minutes, oldest first, of every station in driving direction: speed in km/h "
                "(empty where no vehicle passed), flow in veh/h, occupancy in %",
            ),
        ),
        target=TensorSpec(
            name="incident",
            shape=(len(STATIONS),),
            minimum=0,
            maximum=1,
            labels=STATIONS,
            description="whether a lane is blocked between this station and the next",
        ),
        max_missing_share=0.2,
        min_samples=1000,
    ),
    recipe={
        "data.train_share": NUM_TRAIN / (NUM_TRAIN + NUM_VAL + NUM_TEST),
        "data.val_share": NUM_VAL / (NUM_TRAIN + NUM_VAL + NUM_TEST),
    },
)


def fetch() -> tuple[Path, ...]:
    """The raw files, shipped beside this module: the runs to learn from, and the test runs of the default seed."""
    names = (TRAFFIC, INCIDENTS, LEARNING_TRAFFIC, LEARNING_INCIDENTS)
    return tuple(Path(__file__).with_name(name) for name in names)


def read(folder: Path) -> RawExamples:
    """One sample for each minute of a run from its 15th on; test runs from `folder`, the others as they are shipped.

    Facts: `minute` at whose end the sample ends; number, `segment`, `onset_min`, `cleared_min` and `lanes_blocked` of
    the run's latest `incident`, -1 before the first.
    """
    here = Path(__file__).parent
    parts = [
        _examples(here / LEARNING_TRAFFIC, here / LEARNING_INCIDENTS, 0),
        _examples(folder / TRAFFIC, folder / INCIDENTS, FIRST_TEST_RUN),
    ]
    x, target, facts = (np.concatenate([part[place] for part in parts]) for place in range(3))
    names = ("run", "minute", "incident", "segment", "onset_min", "cleared_min", "lanes_blocked")
    by_name = {name: facts[:, place].astype(np.float32) for place, name in enumerate(names)}
    return RawExamples({"x": x}, target, by_name["run"].astype(np.int64), by_name)


def _examples(
    traffic: Path, incidents: Path, first_run: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Inputs (S, T, N, C), target (S, N) and facts (S, 7) of all runs in these files."""
    frame = pl.read_parquet(traffic).sort("run", "minute", "station")
    listed = pl.read_parquet(incidents)
    xs, targets, facts = [], [], []
    for (run,), rows in frame.group_by("run", maintain_order=True):
        values = rows.select(CHANNELS).to_numpy().astype(np.float32).reshape(-1, len(STATIONS), len(CHANNELS))
        windows = np.lib.stride_tricks.sliding_window_view(values, PAST_MIN, axis=0).transpose(0, 3, 1, 2)
        ends_min = np.arange(PAST_MIN, len(values) + 1, dtype=np.float64)  # (S,) the end of the newest minute
        its = listed.filter(pl.col("run") == run).sort("onset_min").to_dicts()
        xs.append(windows)
        targets.append(_target(ends_min, its))
        facts.append(_facts(first_run + int(str(run)), ends_min, its))
    return np.concatenate(xs), np.concatenate(targets), np.concatenate(facts)


def _target(ends_min: NDArray[np.float64], incidents: list[dict[str, Any]]) -> NDArray[np.float32]:
    """(S, N): 1 while the segment is blocked, NaN where it can be said neither way, else 0."""
    target = np.zeros((len(ends_min), len(STATIONS)), np.float32)
    for one in incidents:
        segment, onset_min, cleared_min = one["segment"], one["onset_min"], one["cleared_min"]
        disturbed = (ends_min > onset_min) & (ends_min <= cleared_min + CLEARED_GREY_MIN)
        near = slice(max(segment - NEAR_SEGMENTS, 0), segment + NEAR_SEGMENTS + 1)
        target[disturbed, near] = np.nan
        target[(ends_min >= onset_min + ONSET_GREY_MIN) & (ends_min <= cleared_min), segment] = 1.0
    return target


def _facts(run: int, ends_min: NDArray[np.float64], incidents: list[dict[str, Any]]) -> NDArray[np.float64]:
    """(S, 7): run, minute, and the latest incident that began before the sample's end."""
    facts = np.full((len(ends_min), 7), -1.0)
    facts[:, 0], facts[:, 1] = run, ends_min
    for one in incidents:
        latest = ends_min > one["onset_min"]
        facts[latest, 2:] = [one[name] for name in ("incident", "segment", "onset_min", "cleared_min", "lanes_blocked")]
    return facts
