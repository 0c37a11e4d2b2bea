"""The words of a budget."""

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.options import UsageError
from flows.search_options import parse_budget, parse_seconds, parse_share
from models.judging.pareto import Budget

TEACHER = {"latency_ms": 2.0, "latency_p99_ms": 5.0, "bytes": 1005.0, "rows_per_second": 100.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_ms=1.0,bytes=100_000", {"latency_ms": 1.0, "bytes": 100_000}),
        ("bytes=100kB", {"bytes": 100_000}),
        ("bytes=1MB, latency_p99_ms=500us", {"bytes": 1_000_000, "latency_p99_ms": 0.5}),
        ("latency_ms=1.0ms", {"latency_ms": 1.0}),
        ("bytes=2KiB", {"bytes": 2048}),
        ("bytes=0.1x,rows_per_second=5x", {"bytes": 100, "rows_per_second": 500.0}),
        ("rows_per_second=1e4", {"rows_per_second": 10_000.0}),
    ],
)
def test_bounds_are_read_with_their_units(text: str, expected: dict[str, float]) -> None:
    assert parse_budget(text, "2%").budget(TEACHER) == Budget(**expected, max_loss=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency=1", "expected one of latency_ms, latency_p99_ms, bytes, rows_per_second"),
        ("bytes", "expected one of"),
        ("bytes=many", "expected a number"),
        ("bytes=1ms", "unknown unit 'ms'; known: 'b'"),
        ("latency_ms=1kB", "unknown unit 'kB'"),
        ("bytes=1,bytes=2", "said before"),
        ("bytes=0", "more than 0"),
        ("bytes=-5", "expected a number"),
        (" , ", "expected at least one of"),
    ],
)
def test_what_is_no_bound_is_refused_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_budget(text, "2%")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "3"], "--trials: for a search, which needs --budget"),
        (["--budget", "latency=1"], "expected one of latency_ms"),
        (["--budget", "bytes=1kB", "--max-loss", "lots"], "--max-loss lots: expected a number"),
    ],
)
def test_the_command_refuses_what_it_cannot_honour(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["compress", "freeway", *words])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_shares_and_times() -> None:
    assert parse_share("2%", "--max-loss") == pytest.approx(0.02) == parse_share("0.02", "--max-loss")
    assert [parse_seconds(text, "--timeout") for text in ("90s", "10min", "1h", "30")] == [90, 600, 3600, 30]
    for wrong in ("120%", "2", "two", "2kB"):
        with pytest.raises(UsageError, match="--max-loss"):
            parse_share(wrong, "--max-loss")
    with pytest.raises(UsageError, match="--timeout"):
        parse_seconds("0s", "--timeout")
