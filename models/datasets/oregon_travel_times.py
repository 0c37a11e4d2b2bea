"""Hourly travel times over six road segments in Oregon, 41 days of 2022, as features.

Real and small. They lie in a Parquet file inside the `traffic_anomaly` package, whose code is never imported.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples

FILE = "sample_travel_times.parquet"
SEGMENTS = ("448838574", "448838575", "448904537", "448904538", "448905974", "448905975")
HOURS = tuple(range(6, 20))
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LAGS = ("hour_ago_s", "two_hours_ago_s", "others_hour_ago_s", "day_ago_s", "week_ago_s")
FEATURES = (
    *(f"segment_{name}" for name in SEGMENTS),
    *(f"hour_{hour:02d}" for hour in HOURS),
    *(f"day_{name}" for name in DAYS),
    *LAGS,
)

CARD = DatasetCard(
    name="oregon_travel_times",
    task="regress",
    title="Oregon DOT, travel times over six segments of SE Sunnyside Rd",
    source="sample data of the Python package traffic-anomaly 2.5.4, by Shawn Strasser, Oregon DOT",
    licence="MIT",
    span="2022-09-02 to 2022-10-12, hourly from 06:00 to 19:00",
    missing_share=0.02,
    contract=Contract(
        inputs=(
            TensorSpec(
                name="x",
                shape=(len(FEATURES),),
                minimum=0,
                maximum=1000,
                labels=FEATURES,
                can_miss=True,
                description="segment, hour and weekday as 0 or 1; earlier travel times in seconds, empty where unknown",
            ),
        ),
        target=TensorSpec(name="travel_time", shape=(1,), unit="s", minimum=0, maximum=1000, labels=("travel_time",)),
        min_samples=1000,
    ),
    # 41 days are few: with a tenth of them a validation of four days would choose between the candidates.
    recipe={"data.train_share": 0.6, "data.val_share": 0.2},
)


def fetch() -> tuple[Path, ...]:
    """The raw file, inside the installed package; raises FileNotFoundError."""
    spec = find_spec("traffic_anomaly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "oregon_travel_times: the package traffic-anomaly is not installed: pip install traffic-anomaly==2.5.4"
        )
    return (Path(spec.origin).parent / "data" / FILE,)


def read(folder: Path) -> RawExamples:
    """A sample for each segment and hour; its day is its group, so that no day lies in two splits."""
    frame = pl.read_parquet(folder / FILE).sort("timestamp", "id")
    first = frame["timestamp"].dt.date().min()
    day = (frame["timestamp"].dt.date() - first).dt.total_days().to_numpy()
    hour = frame["timestamp"].dt.hour().cast(pl.Int64).to_numpy()
    weekday = frame["timestamp"].dt.weekday().cast(pl.Int64).to_numpy() - 1
    segment = np.searchsorted(np.array(SEGMENTS, np.int64), frame["id"].to_numpy())
    target = frame["travel_time"].to_numpy().astype(np.float32)
    grid = np.full((int(day.max()) + 1, 24, len(SEGMENTS)), np.nan, np.float32)  # [days, hours, segments]
    grid[day, hour, segment] = target
    choices = (np.eye(len(SEGMENTS))[segment], np.eye(len(HOURS))[hour - HOURS[0]], np.eye(len(DAYS))[weekday])
    x = np.concatenate([*choices, _earlier(grid, day, hour, segment)], axis=1).astype(np.float32)
    facts = {"hour": hour, "segment": segment.astype(np.int64)}
    return RawExamples({"x": x}, target[:, None], groups=day.astype(np.int64), facts=facts)


def _earlier(
    grid: NDArray[np.float32], day: NDArray[np.int64], hour: NDArray[np.int64], segment: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What was known an hour before: (S, 5), NaN where nothing was measured."""
    long_ago = np.full((7, *grid.shape[1:]), np.nan, np.float32)
    days = np.concatenate([long_ago, grid])  # day d lies at d + 7
    hour_ago = days[day + 7, hour - 1]  # [S, segments]
    others = np.where(np.arange(grid.shape[2]) == segment[:, None], np.nan, hour_ago)
    num_others = np.maximum((~np.isnan(others)).sum(axis=1), 1)
    total = np.where(np.isnan(others).all(axis=1), np.nan, np.nansum(others, axis=1))
    columns = [
        days[day + 7, hour - 1, segment],
        days[day + 7, hour - 2, segment],
        total / num_others,
        days[day + 6, hour, segment],
        days[day, hour, segment],
    ]
    return np.stack(columns, axis=1).astype(np.float32)
