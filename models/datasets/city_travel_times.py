"""Travel times of a simulated city's streets on twenty mornings with road works.

Made with SUMO by a seeded script of ours (`infra/sumo_works.py`; the extra `sim` makes it for any other seed, which
also draws another map). What a service would know goes in: what every tenth car, which reports, needed for the
streets that it had just left, and the works that are announced, which begin and end some minutes off. What comes out is
what all cars needed that entered a street later. Simulated: no evidence about any real road.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples
from models.data.findings import Finding
from models.data.network import read_network

FILES = ("city_travel_times.parquet", "city_streets.csv")
SCENARIO = {"kind": "works", "seed": 1}
NUM_PAST, NUM_AHEAD, NUM_EDGES = 6, 4, 98

CARD = DatasetCard(
    name="city_travel_times",
    task="route",
    title="Simulated city with road works: travel times of its streets",
    source="SUMO 1.28, microscopic; seeded script infra/sumo_works.py; simulated, not measured",
    licence="Apache-2.0",
    span="20 mornings from a Monday on, 06:20 to 09:30, every 5 min (simulated)",
    num_nodes=NUM_EDGES,
    missing_share=0.105,
    contract=Contract(
        cadence_min=5,
        max_missing_share=0.8,
        min_samples=200,
        inputs=(
            TensorSpec(
                name="recent",
                shape=(NUM_PAST, NUM_EDGES),
                unit="s",
                minimum=0,
                maximum=3600,
                can_miss=True,
                description="mean travel time of each street as reported by cars that left it in the last six slots",
            ),
            TensorSpec(
                name="works",
                shape=(NUM_AHEAD, NUM_EDGES),
                minimum=0,
                maximum=1,
                scaled=False,
                description="share of each of the next four slots in which works are announced on each street",
            ),
            TensorSpec(
                name="slot",
                shape=(1,),
                dtype="int64",
                minimum=0,
                maximum=287,
                scaled=False,
                description="five-minute slot of the day of the last reports",
            ),
            TensorSpec(
                name="weekday",
                shape=(1,),
                dtype="int64",
                minimum=0,
                maximum=6,
                scaled=False,
                description="day of the week, Monday 0",
            ),
        ),
        target=TensorSpec(
            name="travel_time",
            shape=(NUM_AHEAD, NUM_EDGES),
            unit="s",
            minimum=0,
            maximum=3600,
            description="mean travel time of cars that enter each street in each of the next four slots",
        ),
    ),
    recipe={"data.val_share": 0.1},
)


def fetch() -> tuple[Path, ...]:
    """The raw files of seed 1, shipped beside this module."""
    return tuple(Path(__file__).with_name(name) for name in FILES)


def read(folder: Path) -> RawExamples:
    """One sample for each slot of a day that has six slots before it and four behind; groups are days.

    The fact `cars` (S, H, E) is how many cars entered: the weight with which an error counts.
    """
    network, findings = read_network(folder / FILES[1])
    if network is None:
        return RawExamples({}, np.zeros(0, np.float32), findings=findings)
    frame = pl.read_parquet(folder / FILES[0])
    place = {name: column for column, name in enumerate(network.edges)}
    if unknown := sorted(set(frame["edge"].unique()) - set(place)):
        expected = f"edges of {FILES[1]}, such as {network.edges[0]}"
        strange = Finding("all", "edge", expected, ", ".join(unknown[:8]), count=len(unknown))
        return RawExamples({}, np.zeros(0, np.float32), findings=(*findings, strange))
    days, slots = frame["day"].unique().sort(), frame["slot"].unique().sort()
    order = frame.select("day", "slot", pl.col("edge").replace_strict(place, return_dtype=pl.Int32)).to_numpy()
    at = (np.searchsorted(days, order[:, 0]), np.searchsorted(slots, order[:, 1]), order[:, 2])
    shape, last_slots = (len(days), len(slots), len(place)), slots.to_numpy()[NUM_PAST - 1 : len(slots) - NUM_AHEAD]
    tables = {name: _table(frame[name], at, shape) for name in ("reported_s", "time_s", "cars", "works")}
    specs = [
        spec.model_copy(update={"labels": network.edges}) if spec.name != "clock" else spec
        for spec in CARD.contract.inputs
    ]
    assert CARD.contract.target is not None
    return RawExamples(
        {
            "recent": _cut(tables["reported_s"], 0, NUM_PAST),
            "works": _cut(np.nan_to_num(tables["works"]), NUM_PAST, NUM_AHEAD),
            "slot": np.tile(last_slots, len(days))[:, None].astype(np.int64),
            "weekday": np.repeat(days.to_numpy() % 7, len(last_slots))[:, None].astype(np.int64),
        },
        _cut(tables["time_s"], NUM_PAST, NUM_AHEAD),
        groups=np.repeat(days.to_numpy(), len(last_slots)).astype(np.int64),
        facts={"cars": _cut(np.nan_to_num(tables["cars"]), NUM_PAST, NUM_AHEAD)},
        findings=findings,
        specs=tuple(specs),
        target_spec=CARD.contract.target.model_copy(update={"labels": network.edges}),
        network=network,
    )


def _table(values: pl.Series, at: tuple[NDArray[np.int64], ...], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """[days, slots, edges], NaN where there is nothing."""
    table = np.full(shape, np.nan, np.float32)
    table[at] = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return table


def _cut(table: NDArray[np.float32], first: int, width: int) -> NDArray[np.float32]:
    """[days, slots, edges] to the `width` slots from `first` on of every sample: [S, width, edges]."""
    num_starts = table.shape[1] - NUM_PAST - NUM_AHEAD + 1
    rows = [table[:, start + first : start + first + width] for start in range(num_starts)]
    return np.stack(rows, axis=1).reshape(-1, width, table.shape[2])
