"""Our reader of Parquet gives what pyarrow gives, for every type, encoding and codec that it takes."""

import io
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact.parquet_footer import FooterError, read_footer
from models.artifact.parquet_values import values

BIG = 1 << 20


def written(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def read(content: bytes) -> dict[str, list[Any]]:
    return {column.name: values(content, column, BIG) for column in read_footer(content, BIG).columns}


def table(num_rows: int, seed: int) -> pa.Table:
    """Every type that is read, a fifth of the cells missing."""
    rng = np.random.default_rng(seed)

    def column(items: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([item if rng.random() > 0.2 else None for item in items], kind)

    whole = [int(item) for item in rng.integers(-(2**31), 2**31, num_rows)]
    times = [datetime(2024, 5, 1) + timedelta(minutes=15 * int(step)) for step in rng.integers(0, 9_999, num_rows)]
    return pa.table({
        "f8": column(rng.normal(size=num_rows).tolist(), pa.float64()),
        "f4": column(rng.normal(size=num_rows).astype(np.float32).tolist(), pa.float32()),
        "few": column(rng.integers(0, 3, num_rows).astype(float).tolist(), pa.float64()),
        "i4": column(whole, pa.int32()),
        "i8": column([item * 2**31 for item in whole], pa.int64()),
        "i1": column([item % 100 for item in whole], pa.int8()),
        "u4": column([item + 2**31 for item in whole], pa.uint32()),
        "u8": column([item + 2**63 for item in whole], pa.uint64()),
        "flag": column([item % 2 == 0 for item in whole], pa.bool_()),
        "text": column([f"s{item % 7} é" for item in whole], pa.string()),
        "time": column(times, pa.timestamp("us")),
        "ms": column(times, pa.timestamp("ms")),
        "ns": column(times, pa.timestamp("ns")),
        "day": column([time.date() for time in times], pa.date32()),
        "whole": pa.array(whole, pa.int64()),
    })  # fmt: skip


def expected(one: pa.Table) -> dict[str, list[Any]]:
    plain = one.set_column(one.column_names.index("day"), "day", one["day"].cast(pa.timestamp("us")))
    plain = plain.set_column(plain.column_names.index("ns"), "ns", plain["ns"].cast(pa.timestamp("us")))
    return {name: plain[name].to_pylist() for name in plain.column_names}


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_every_type_is_read_as_pyarrow_reads_it(codec: str, version: str, dictionary: bool) -> None:
    one = table(300, seed=1)
    content = written(one, compression=codec, data_page_version=version, use_dictionary=dictionary, row_group_size=110)
    assert read(content) == expected(one)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 700), st.integers(0, 99), st.sampled_from([64, 4_096, BIG]))
def test_any_length_and_any_size_of_page(num_rows: int, seed: int, page: int) -> None:
    one = table(num_rows, seed)
    assert read(written(one, data_page_size=page, write_batch_size=16)) == expected(one)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=400))
def test_deltas_of_any_integers(numbers: list[int]) -> None:
    one = pa.table({"n": pa.array(numbers, pa.int64()), "few": pa.array([n % 9 for n in numbers], pa.int32())})
    content = written(
        one, use_dictionary=False, column_encoding={"n": "DELTA_BINARY_PACKED", "few": "DELTA_BINARY_PACKED"}
    )
    assert read(content) == {"n": numbers, "few": [n % 9 for n in numbers]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.0], [2.0]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array(["x" * 300, "y"]),
    ],
    ids=["list", "structure", "long text"],
)
def test_what_is_no_flat_small_cell_is_refused(column: pa.Array) -> None:
    with pytest.raises(FooterError):
        read(written(pa.table({"c": column})))


def test_a_page_may_not_be_larger_than_allowed() -> None:
    content = written(pa.table({"c": pa.array(np.zeros(10_000))}), use_dictionary=False, compression="zstd")
    column = read_footer(content, BIG).columns[0]
    assert values(content, column, 80_100) == [0.0] * 10_000
    with pytest.raises(FooterError, match="a page of"):
        values(content, column, 80_000)
