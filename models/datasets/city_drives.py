"""Cars in simulated towns: noisy fixes, outages, a map of the roads, and their true places.

Made once with SUMO by a seeded script of ours (`infra/sumo_city.py`; the extra `sim` makes any other seed). Positions
of satellite receivers between houses are drawn, not measured (`infra/sumo_city_sensors.py` says how): good for showing
what a road map is worth to a filter, no evidence about any real receiver. Every town has a map of its own, and the
towns of the test split are none that were learned from, but for the one through which the cut runs.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples
from models.data.findings import Finding, refuse
from models.data.fixes import CADENCE_S, FEATURES
from models.data.raster import CELL_M, Segments, patches

DRIVES, ROADS = "city_drives.parquet", "city_roads.parquet"
DRIVE_COLUMNS = (
    "drive", "time_s", "fix_x_dm", "fix_y_dm", "course_deg", "speed_dmps", "turn_ddps", "true_x_dm", "true_y_dm",
)  # fmt: skip
ROAD_COLUMNS = ("town", "x1_dm", "y1_dm", "x2_dm", "y2_dm")
DRIVES_OF_A_TOWN = 10_000  # the number of a drive is that of its town times this, plus its own
NUM_FIXES, STRIDE, PATCH = 30, 9, 40  # fixes of a sample, fixes between two samples, cells of the map's side

SCENARIO = {"kind": "city", "seed": 1}

CARD = DatasetCard(
    name="city_drives",
    task="localise",
    title="Simulated drives through twelve towns, with the errors and outages of a receiver between houses",
    source="SUMO 1.28, microscopic; seeded scripts infra/sumo_city*.py; simulated, not measured",
    licence="Apache-2.0",
    span="1440 drives of 90 to 300 s, a fix every 2 s",
    missing_share=0.02,
    contract=Contract(
        inputs=(
            TensorSpec(
                name="fixes",
                shape=(NUM_FIXES, len(FEATURES)),
                unit="m, 1, m/s, degrees/s",
                minimum=-2000,
                maximum=2000,
                labels=FEATURES,
                can_miss=True,
                scaled=False,
                description="every 2 s, the last one now: position from an origin of the caller's choice, a whole "
                "number of 6 m cells and within some 30 m of where the car should be; sine and cosine of the course, "
                "counter-clockwise from east; position and course are null in an outage. Mean speed of the wheels and "
                "turn rate since the fix before, counter-clockwise; both go on in an outage",
            ),
            TensorSpec(
                name="patch",
                shape=(1, PATCH, PATCH),
                minimum=0,
                maximum=1,
                scaled=False,
                description="map of the roads, 6 m cells, the origin in the middle, rows from south to north: 1 less "
                "the distance of the cell's middle to the nearest road's middle line / 20 m, at least 0",
            ),
        ),
        target=TensorSpec(
            name="position",
            shape=(2,),
            unit="m",
            labels=("x_m", "y_m"),
            scaled=False,
            description="of the middle of the car at the last fix, east and north of the origin",
        ),
        max_missing_share=0.5,
        min_samples=200,
    ),
)


def fetch() -> tuple[Path, ...]:
    """The drives and roads of the default scenario, shipped beside this module."""
    return tuple(Path(__file__).with_name(name) for name in (DRIVES, ROADS))


def read(folder: Path) -> RawExamples:
    """Windows of 30 fixes, cut every 18 s out of each drive; facts: is_outage, outage_s, town, step.

    The origin of each is what the Kalman filter says, rounded to a cell. Raises BadDataError for drives or roads that
    cannot be read.
    """
    refuse([*_unreadable(folder / DRIVES), *_unreadable(folder / ROADS)], "city_drives")
    drives, roads = pl.read_parquet(folder / DRIVES), pl.read_parquet(folder / ROADS)
    refuse([*_columns(drives, DRIVES, DRIVE_COLUMNS), *_columns(roads, ROADS, ROAD_COLUMNS)], "city_drives")
    refuse([*_bad_roads(roads), *_bad_drives(drives, roads)], "city_drives")
    drives = drives.sort("drive", "time_s")
    rows = _windows(drives["drive"].to_numpy())
    fixes = _fixes(drives)[rows]  # [S, T, F]
    seen = ~np.isnan(fixes[:, :, 0])
    rows, fixes, seen = rows[seen.any(1)], fixes[seen.any(1)], seen[seen.any(1)]
    silent = seen[:, ::-1].argmax(1)  # steps since the last fix
    near = fixes[np.arange(len(fixes)), NUM_FIXES - 1 - silent, :2]
    fixes[:, :, :2] -= near[:, None]
    origin = near + np.round(_followed(fixes, seen) / CELL_M) * CELL_M
    origin = np.round(origin / CELL_M) * CELL_M  # whole cells of the town's own grid
    fixes[:, :, :2] += (near - origin)[:, None]
    last = rows[:, -1]
    true = drives.select("true_x_dm", "true_y_dm").to_numpy()[last] / 10
    number = drives["drive"].to_numpy()[last].astype(np.int64)
    town = number // DRIVES_OF_A_TOWN
    return RawExamples(
        inputs={"fixes": fixes.astype(np.float32), "patch": _patches(roads, town, origin)},
        target=(true - origin).astype(np.float32),
        groups=number,
        facts={
            "is_outage": (silent > 0).astype(np.int64),
            "outage_s": (silent * CADENCE_S).astype(np.float32),
            "town": town,
            "time_s": drives["time_s"].to_numpy()[last].astype(np.int64),
        },
    )


def _unreadable(path: Path) -> list[Finding]:
    """A file that is not there, or is no whole Parquet file: those begin and end with the same four letters."""
    if not path.is_file():
        return [Finding("all", path.name, "a Parquet file", "no such file")]
    content = path.read_bytes()
    is_whole = len(content) > 12 and content[:4] == content[-4:] == b"PAR1"
    return [] if is_whole else [Finding("all", path.name, "a Parquet file", f"{len(content)} bytes of something else")]


def _columns(frame: pl.DataFrame, file: str, names: tuple[str, ...]) -> list[Finding]:
    """Columns that are missing or hold no numbers."""
    findings = []
    for name in names:
        if name not in frame.columns:
            findings.append(Finding("all", f"{file}: {name}", "a column of whole numbers", "none"))
        elif not frame[name].dtype.is_integer():
            findings.append(Finding("all", f"{file}: {name}", "a column of whole numbers", str(frame[name].dtype)))
    return findings


def _bad_roads(roads: pl.DataFrame) -> list[Finding]:
    """A road without an end, or one that leads nowhere."""
    broken = roads.select(pl.any_horizontal(pl.col(*ROAD_COLUMNS).is_null())).to_series()
    nowhere = ((roads["x1_dm"] == roads["x2_dm"]) & (roads["y1_dm"] == roads["y2_dm"])).fill_null(value=False)
    wrong = (broken | nowhere).arg_true().to_list()
    expected = "two different ends"
    findings = [Finding(str(row + 1), ROADS, expected, str(roads.row(row)[:5])) for row in wrong[:10]]
    return findings or ([Finding("all", ROADS, "roads", "none")] if roads.is_empty() else [])


def _bad_drives(drives: pl.DataFrame, roads: pl.DataFrame) -> list[Finding]:
    """Drives through towns without a map, and values that must be there and are not."""
    findings = [
        Finding("all", f"{DRIVES}: {name}", "no missing values", f"{drives[name].null_count()} missing")
        for name in ("drive", "time_s", "speed_dmps", "turn_ddps", "true_x_dm", "true_y_dm")
        if drives[name].null_count()
    ]
    unmapped = set((drives["drive"].drop_nulls() // DRIVES_OF_A_TOWN).unique()) - set(roads["town"].unique())
    return [*findings, *(Finding("all", ROADS, f"roads of town {town}", "none") for town in sorted(unmapped))]


def _windows(drive: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rows [S, T] of every sample: the last fixes of each lie `STRIDE` apart in a drive."""
    start = np.flatnonzero(np.diff(drive, prepend=-1))
    stop = np.append(start[1:], len(drive))
    last = np.concatenate([np.arange(a + NUM_FIXES - 1, b, STRIDE) for a, b in zip(start, stop, strict=True)])
    return last[:, None] + np.arange(1 - NUM_FIXES, 1)


def _fixes(drives: pl.DataFrame) -> NDArray[np.float64]:
    """The features of every row [n, F], positions on the town's own grid, NaN in an outage."""
    columns = ("fix_x_dm", "fix_y_dm", "course_deg", "speed_dmps", "turn_ddps")
    x, y, course, speed, turn = drives.select(pl.col(*columns).cast(pl.Float64)).fill_null(np.nan).to_numpy().T
    angle = np.radians(course)
    return np.stack([x / 10, y / 10, np.sin(angle), np.cos(angle), speed / 10, turn / 10], axis=1)


def _followed(fixes: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where the Kalman filter puts the cars at the last fix [S, 2]."""
    import torch  # here, so that whoever only wants to know which data sets there are need not wait for it

    from models.data.kalman import follow

    with torch.no_grad():
        given = torch.from_numpy(np.nan_to_num(fixes).astype(np.float32))
        track = follow(given, torch.from_numpy(seen.astype(np.float32)))
    return track.state[:, -1, :2].double().numpy()


def _patches(roads: pl.DataFrame, town: NDArray[np.int64], origin: NDArray[np.float64]) -> NDArray[np.float32]:
    """The map around the origin of every sample [S, 1, P, P]."""
    drawn = np.zeros((len(town), 1, PATCH, PATCH), np.float32)
    for number in np.unique(town):
        rows = np.flatnonzero(town == number)
        own = roads.filter(pl.col("town") == number).select(ROAD_COLUMNS[1:]).to_numpy() / 10
        drawn[rows, 0] = patches(Segments(own[:, :2], own[:, 2:]), origin[rows], PATCH)
    return drawn
