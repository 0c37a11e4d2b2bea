"""Personal columns made harmless before anything is looked at, shown or written.

A pseudonym is a keyed hash (HMAC-SHA256): the same value gives the same pseudonym, and without the key neither a guess
can be tested nor a table of all plates computed. A coarsened position is the centre of a grid cell.
"""

import hashlib
import hmac
import math

import polars as pl

from models.data.card import PersonalColumn
from models.data.findings import BadDataError, Finding

METRES_PER_DEGREE = 111_320.0  # of latitude
LATITUDES, LONGITUDES = ("lat", "latitude"), ("lon", "lng", "long", "longitude")
PSEUDONYM_LENGTH = 24  # hex digits, 96 bits


def mask(frame: pl.DataFrame, personal: tuple[PersonalColumn, ...], key: bytes) -> pl.DataFrame:
    """The frame with every personal column pseudonymised, coarsened or dropped.

    A column called lat or latitude is in degrees, so is lon or longitude (which needs its latitude beside it to keep
    `grid_m` true); any other coarsened column is in metres. Raises BadDataError for a column that is not there or is no
    number, ValueError for an empty key.
    """
    if not personal:
        return frame
    if not key:
        raise ValueError("masking needs a key")
    missing = [
        Finding("header", column.name, "a column", "not there") for column in personal if column.name not in frame
    ]
    if missing:
        raise BadDataError(missing)
    for column in sorted(
        personal, key=lambda column: column.name.lower() in LONGITUDES
    ):  # a longitude needs its coarse latitude
        if column.how == "drop":
            frame = frame.drop(column.name)
        elif column.how == "coarsen":
            frame = frame.with_columns(_coarse(frame, column))
        else:
            frame = frame.with_columns(_pseudonyms(frame[column.name], key))
    return frame


def _pseudonyms(values: pl.Series, key: bytes) -> pl.Series:
    known = values.cast(pl.String).unique().drop_nulls().to_list()
    codes = [pseudonym(value, values.name, key) for value in known]
    return values.cast(pl.String).replace_strict(known, codes, default=None, return_dtype=pl.String)


def pseudonym(value: str, column: str, key: bytes) -> str:
    """Keyed, the same for the same value of the same column."""
    message = column.encode() + b"\0" + value.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:PSEUDONYM_LENGTH]


def _coarse(frame: pl.DataFrame, column: PersonalColumn) -> pl.Expr:
    values = frame[column.name]
    numbers = values.cast(pl.Float64, strict=False)
    bad = values.is_not_null() & numbers.is_null()
    if bad.any():  # the value itself is personal: do not show it
        raise BadDataError([Finding(f"row {bad.arg_max()}", column.name, "a number", "text", int(bad.sum()))])
    name, step = column.name.lower(), pl.lit(column.grid_m)
    if name in LATITUDES:
        step = step / METRES_PER_DEGREE
    elif name in LONGITUDES:
        latitude = next((other for other in frame.columns if other.lower() in LATITUDES), None)
        narrowing = (
            pl.col(latitude).cast(pl.Float64).radians().cos() if latitude else pl.lit(math.cos(math.radians(60)))
        )
        step = step / METRES_PER_DEGREE / narrowing.clip(0.01)
    return ((pl.col(column.name).cast(pl.Float64) / step).floor() * step + step / 2).alias(column.name)
