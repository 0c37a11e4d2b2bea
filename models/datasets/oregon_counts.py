"""Vehicle counts of one signalised junction in Oregon, every 15 minutes for 26 days of 2024.

Real and small. The counts lie in a Parquet file inside the `traffic_anomaly` package, whose code is never imported.
"""

from importlib.util import find_spec
from pathlib import Path

import polars as pl

from models.data.card import Channel, Contract, DatasetCard
from models.data.series import NODE, TIME, RawSeries

FILE = "sample_counts.parquet"

CARD = DatasetCard(
    name="oregon_counts",
    task="forecast",
    title="Oregon DOT, detector counts of junction 85",
    source="sample data of the Python package traffic-anomaly 2.5.4, by Shawn Strasser, Oregon DOT",
    licence="MIT",
    span="2024-04-18 00:00 to 2024-05-13 23:45, every 15 min",
    num_nodes=22,
    missing_share=0.0016,
    contract=Contract(
        channels=(Channel(name="count_veh", unit="veh/15 min", minimum=0, maximum=1000),),
        cadence_min=15,
        max_missing_share=0.05,
        max_gap_steps=8,
    ),
    recipe={"data.horizon_steps": 4, "judge.judged_step": 1},
)


def fetch() -> tuple[Path, ...]:
    """The raw file, inside the installed package; raises FileNotFoundError."""
    spec = find_spec("traffic_anomaly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "oregon_counts: the package traffic-anomaly is not installed: pip install traffic-anomaly==2.5.4"
        )
    return (Path(spec.origin).parent / "data" / FILE,)


def read(folder: Path) -> RawSeries:
    """One row for each detector and quarter of an hour; a node is called `intersection-detector`."""
    frame = pl.read_parquet(folder / FILE)
    node = pl.format("{}-{}", "intersection", "detector").alias(NODE)
    return RawSeries(frame.select(pl.col("timestamp").alias(TIME), node, pl.col("total").alias("count_veh")))
