"""A simulated freeway, congested daily, with incidents: 30 stations, 5 minutes, four weeks.

Made once with SUMO by a seeded script of ours (`infra/sumo.py`; the extra `sim` makes it again, or any other size).
`data.seed` simulates a week of a shorter one, 12 stations on 6 km, in its place.
Simulated: good for showing that a network can win, no evidence about any real road.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.data.card import Channel, Contract, DatasetCard
from models.data.grid import natural
from models.data.series import NODE, TIME, RawSeries

FILE = "freeway.parquet"

# What `data.seed` draws anew: a week of a shorter road; four weeks of all 14 km take the better part of an hour. It
# begins on a Thursday, so that the last fifth, the test split, is made of working days.
SCENARIO: dict[str, Any] = {
    "kind": "freeway",
    "seed": 1,
    "num_days": 7,
    "start": "2024-03-07",
    "num_stations": 12,
    "length_km": 6.0,
    "num_interchanges": 2,
    "entry_peak_vph": 3050.0,
    "ramp_peak_vph": 760.0,
}

CARD = DatasetCard(
    name="freeway",
    task="forecast",
    title="Simulated freeway with recurrent congestion and incidents",
    source="SUMO 1.28, microscopic; seeded script infra/sumo.py; simulated, not measured",
    licence="Apache-2.0",
    span="2024-03-04 00:00 to 2024-03-31 23:55 (simulated dates), every 5 min",
    num_nodes=30,
    missing_share=0.0,
    contract=Contract(
        channels=(
            Channel(name="speed_kmh", unit="km/h", minimum=0, maximum=200),
            Channel(name="flow_vph", unit="veh/h", minimum=0, maximum=12_000),
            Channel(name="occupancy_pct", unit="%", minimum=0, maximum=100),
        ),
        cadence_min=5,
        max_missing_share=0.1,
        max_gap_steps=12,
        min_steps=7 * 288,
    ),
    recipe={"data.horizon_steps": 12, "judge.judged_step": 3},
)


def fetch() -> tuple[Path, ...]:
    """The raw file, shipped beside this module."""
    return (Path(__file__).with_name(FILE),)


def read(folder: Path) -> RawSeries:
    """One row for each station and five minutes; the speed is null where no vehicle passed.

    Stations are numbered along the road, so each one's traffic drives on to the next: a link.
    """
    frame = pl.read_parquet(folder / FILE)
    names = [channel.name for channel in CARD.contract.channels]
    stations = tuple(sorted(frame["station"].unique(), key=natural))
    links = np.eye(len(stations), k=1, dtype=np.float32)
    table = frame.select(pl.col("time").alias(TIME), pl.col("station").alias(NODE), *names)
    return RawSeries(table, stations, links)
