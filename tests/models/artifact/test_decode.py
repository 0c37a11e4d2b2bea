"""Bodies as people send them become the same arrays as JSON does, and damaged ones a refusal, whatever they hold."""

import io
import json
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.artifact import decode_image, decode_table, parquet_codecs, wire
from models.artifact.checks import InputError
from models.artifact.decode import content_types, decode, is_accepted
from models.artifact.manifest import Manifest
from models.data import images, parse

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
NODES, STEPS, LAST = ("a", "b", "c"), 4, datetime(2024, 5, 31, 17, 45)
FACTS = {
    "product": "p", "variant": "v", "family": "f", "data_digest": "", "recipe_digest": "", "code_commit": "",
    "num_parameters": 0, "opset": 20, "files": {}, "max_batch": 8,
}  # fmt: skip
FORECAST = {
    **FACTS, "task": "forecast", "nodes": NODES, "past_steps": STEPS, "horizon_steps": 2, "cadence_min": 15.0,
    "slots_per_day": 96, "max_missing_share": 0.5,
}  # fmt: skip
ONE = Manifest(**FORECAST, channels=("speed",), units=("km/h",), ranges=((0.0, 200.0),))
TWO = Manifest(**FORECAST, channels=("speed", "flow"), units=("km/h", "veh/h"), ranges=((0.0, 200.0), (0.0, None)))
GREY, RGB = (
    Manifest(**FACTS, task="classify", classes=("x", "y"), image_shape=(channels, 5, 4), ranges=((0.0, 1.0),))
    for channels in (1, 3)
)
TIMES = [LAST - timedelta(minutes=15 * (STEPS - 1 - step)) for step in range(STEPS)]


def readings(manifest: Manifest) -> list[list[list[float | None]]]:
    """[T][N][C]; one of the first step is missing."""
    values = np.round(np.random.default_rng(1).uniform(0, 100, (STEPS, 3, len(manifest.channels))), 2).tolist()
    values[0][1][0] = None
    return values


def by_json(manifest: Manifest) -> wire.Request:
    body = {"data": {"time": LAST.isoformat(), "values": readings(manifest)}}
    return wire.parse_request(manifest, json.dumps(body).encode())


def wide(manifest: Manifest) -> pl.DataFrame:
    columns: dict[str, Any] = {}
    for n, node in enumerate(NODES):
        for c, channel in enumerate(manifest.channels):
            name = node if len(manifest.channels) == 1 else f"{node}:{channel}"
            columns[name] = [row[n][c] for row in readings(manifest)]
    return pl.DataFrame({"time": TIMES, **columns})


def long(manifest: Manifest) -> pl.DataFrame:
    rows = [
        {"time": TIMES[t], "node": node, **dict(zip(manifest.channels, readings(manifest)[t][n], strict=True))}
        for t in range(STEPS)
        for n, node in enumerate(NODES)
    ]
    return pl.DataFrame(rows)


def as_csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S").encode()


def as_parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(frame.to_arrow().cast(_plain(frame)), stream, **options)
    return stream.getvalue()


def _plain(frame: pl.DataFrame) -> pa.Schema:
    fields = [(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in frame.to_arrow().schema]
    return pa.schema(fields)


def assert_same(one: wire.Request, other: wire.Request) -> None:
    assert set(one.inputs) == set(other.inputs)
    for name, array in one.inputs.items():
        assert array.dtype == other.inputs[name].dtype
        np.testing.assert_array_equal(array, other.inputs[name])


def refused(manifest: Manifest, body: bytes, kind: str) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(manifest, body, kind)
    assert all(caught.value.as_dict().values())
    return caught.value


@pytest.mark.parametrize("manifest", [ONE, TWO], ids=["one channel", "two channels"])
@pytest.mark.parametrize("shape", [wide, long])
@pytest.mark.parametrize("form", [CSV, PARQUET])
def test_tables_in_any_order_are_what_json_is(manifest: Manifest, shape: Any, form: str) -> None:
    frame = shape(manifest)
    write = as_csv if form == CSV else as_parquet
    for table in (frame, frame.reverse().select(reversed(frame.columns))):
        request = decode(manifest, write(table), form)
        assert_same(request, by_json(manifest))
        assert not request.is_list


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_of_any_common_writer(codec: str, version: str) -> None:
    written = as_parquet(long(TWO), compression=codec, data_page_version=version)
    assert_same(decode(TWO, written, PARQUET), by_json(TWO))
    stream = io.BytesIO()
    long(TWO).with_columns(pl.col("time").dt.replace_time_zone("UTC").dt.cast_time_unit("ns")).write_parquet(stream)
    assert_same(decode(TWO, stream.getvalue(), PARQUET), by_json(TWO))


def test_a_column_named_window_makes_a_list() -> None:
    later = wide(ONE).with_columns(pl.col("time") + timedelta(hours=1))
    both = pl.concat([wide(ONE).with_columns(window=pl.lit("x")), later.with_columns(window=pl.lit("y"))])
    for body, form in ((as_csv(both), CSV), (as_parquet(both), PARQUET)):
        request = decode(ONE, body, form)
        assert request.is_list and request.num_rows == 2
        np.testing.assert_array_equal(request.inputs["x"][0], request.inputs["x"][1])
        assert (request.inputs["clock"][1] - request.inputs["clock"][0]).tolist() == [4, 0]


def test_separators_byte_order_marks_and_words_for_nothing_are_read_as_in_training() -> None:
    text = as_csv(wide(ONE)).decode()
    assert_same(decode(ONE, ("\ufeff" + text.replace(",", ";")).encode(), "Text/CSV; charset=utf-8"), by_json(ONE))
    assert_same(decode(ONE, text.replace(",,", ",NaN,").encode(), CSV), by_json(ONE))
    assert decode_table.NO_VALUE == parse.NO_VALUE


BAD = {
    "no time": ("missing column", lambda text: text.replace("time", "moment")),
    "unknown": ("unknown column", lambda text: text.replace("time,a", "time,z")),
    "one node less": ("missing columns", lambda text: "\n".join(row.rpartition(",")[0] for row in text.split("\n"))),
    "twice": ("repeated column", lambda text: text.replace("time,a,b", "time,a,a")),
    "ragged": ("ragged table", lambda text: text.replace("time,a,b,c", "time,a,b,c,")),
    "a step less": ("wrong number of steps", lambda text: "\n".join(text.split("\n")[:-2])),
    "a step twice": ("repeated row", lambda text: text.replace("17:30", "17:45")),
    "a gap": ("time outside the window", lambda text: text.replace("17:00", "16:30")),
    "off the grid": ("time off the grid", lambda text: text.replace("17:30", "17:31")),
    "words": ("not a number", lambda text: text.replace(",,", ",fast,")),
    "too fast": ("speed outside its range", lambda text: text.replace(",,", ",900,")),
    "quotation": ("not CSV", lambda text: text.replace("time", '"time')),
    "only a header": ("empty table", lambda text: text.split("\n")[0]),
    "nothing": ("empty table", lambda text: ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_in_words(case: str) -> None:
    what, change = BAD[case]
    assert refused(ONE, change(as_csv(wide(ONE)).decode()).encode(), CSV).what == what


def test_a_table_says_the_line_of_a_bad_cell() -> None:
    text = as_csv(wide(ONE)).decode().replace(",,", ",fast,")
    error = refused(ONE, text.encode(), CSV)
    assert error.where == "line 2, column b" and "fast" in error.got


def test_parquet_that_would_unfold_is_refused_before_it_does() -> None:
    one_long_text = pl.DataFrame({"time": TIMES, "node": ["a" * 10_000_000] * STEPS, "speed": [1.0] * STEPS})
    assert refused(ONE, as_parquet(one_long_text, compression="zstd"), PARQUET).where == "body"
    repeated = as_parquet(pl.DataFrame({"time": [TIMES[0]] * 10_000, "node": ["a"] * 10_000, "speed": [1.0] * 10_000}))
    assert refused(ONE, repeated, PARQUET).what == "table too large"
    assert "cells" in refused(ONE, as_parquet(pl.DataFrame({str(i): [1] for i in range(200)})), PARQUET).expected
    for codec, name in ((1, "snappy"), (2, "gzip"), (4, "brotli"), (6, "zstd"), (7, "lz4_raw")):
        bomb = pa.compress(b"\0" * 10**6, name, True)
        assert parquet_codecs.unpacked(codec, bomb, 10**6) == b"\0" * 10**6
        with pytest.raises(parquet_codecs.CodecError):
            parquet_codecs.unpacked(codec, bomb, 1_000)


def picture(shape: tuple[int, int], mode: str, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("manifest", "mode"), [(GREY, "L"), (GREY, "1"), (RGB, "RGB"), (RGB, "P")])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_is_read_as_in_training(manifest: Manifest, mode: str, form: str, tmp_path: Path) -> None:
    body = picture((5, 4), mode if form == "PNG" or mode not in ("1", "P") else "L" if mode == "1" else "RGB", form)
    for kind in ("x", "y"):
        (tmp_path / kind).mkdir()
        for copy in range(10):  # the least that training takes
            (tmp_path / kind / f"{copy}.{form.lower()}").write_bytes(body)
    trained, _ = images.read_image_folder(tmp_path, "toy")
    request = decode(manifest, body, f"image/{form.lower()}")
    np.testing.assert_array_equal(request.inputs["x"][0], trained.pixels[0].astype(np.float32) / np.float32(255))
    assert decode_image.COLOURS == images.COLOURS


def test_grey_and_rgb_stand_in_for_each_other_only_where_nothing_is_lost() -> None:
    grey = decode(GREY, picture((5, 4), "L"), "image/png").inputs["x"]
    np.testing.assert_array_equal(decode(RGB, picture((5, 4), "L"), "image/png").inputs["x"][0], grey[0].repeat(3, 0))
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture((5, 4), "L"))).convert("RGB").save(stream, "PNG")
    np.testing.assert_array_equal(decode(GREY, stream.getvalue(), "image/png").inputs["x"], grey)
    assert refused(GREY, picture((5, 4), "RGB"), "image/png").what == "coloured picture"


def test_other_pictures_are_refused() -> None:
    assert "4 × 5" in refused(GREY, picture((6, 4), "L"), "image/png").expected
    assert refused(GREY, picture((5, 4), "RGBA"), "image/png").what == "wrong kind of picture"
    assert refused(GREY, picture((5, 4), "L", "JPEG"), "image/png").what == "unreadable picture"
    huge = bytearray(picture((5, 4), "L"))
    huge[16:24] = (60_000).to_bytes(4) * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4)
    assert refused(GREY, bytes(huge), "image/png").where == "image"


def test_what_a_task_does_not_take_is_refused() -> None:
    assert content_types(ONE) == ("application/json", CSV, PARQUET)
    assert is_accepted(GREY, "IMAGE/PNG") and is_accepted(ONE, "application/vnd.x+json") and is_accepted(ONE, "")
    for manifest, kind in ((ONE, "image/png"), (GREY, CSV), (GREY, "application/pdf")):
        assert not is_accepted(manifest, kind)
        assert refused(manifest, b"", kind).what == "wrong content type"


WHOLE = [
    (ONE, as_csv(wide(ONE)), CSV),
    (TWO, as_csv(long(TWO)), CSV),
    *((TWO, as_parquet(long(TWO), compression=codec), PARQUET) for codec in ("none", "snappy", "gzip", "zstd")),
    (ONE, as_parquet(wide(ONE), data_page_version="2.0"), PARQUET),
    (GREY, picture((5, 4), "L"), "image/png"),
    (RGB, picture((5, 4), "P"), "image/png"),
    (RGB, picture((5, 4), "RGB", "JPEG", progressive=True), "image/jpeg"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
    st.binary(max_size=8),
)
@example(WHOLE[2], [], 0.0, b"")
def test_damaged_bytes_are_refused_or_read_and_nothing_else(
    whole: tuple[Manifest, bytes, str], flips: list[tuple[float, int]], kept: float, tail: bytes
) -> None:
    manifest, body, kind = whole
    damaged = bytearray(body if kept > 0.5 else body[: int(2 * kept * len(body))])
    for place, value in flips if damaged else []:
        damaged[int(place * len(damaged))] ^= value
    try:
        request = decode(manifest, bytes(damaged) + tail, kind)
    except InputError as error:
        assert all(error.as_dict().values())
    else:
        assert request.num_rows <= manifest.max_batch and np.isfinite(request.inputs["x"]).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from([CSV, PARQUET, "image/png", "image/jpeg", "application/json"]))
def test_any_bytes_are_refused_in_words(body: bytes, kind: str) -> None:
    manifest = GREY if kind.startswith("image") else ONE
    refused(manifest, body, kind)
    if kind == PARQUET:
        refused(manifest, b"PAR1" + body + len(body).to_bytes(4, "little") + b"PAR1", kind)
