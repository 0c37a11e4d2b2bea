"""The words of a search: `latency_ms=1.0,bytes=100_000` and `2%`, read or refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flows.options import UsageError
from models.judging.pareto import Budget

BOUNDS = ("latency_ms", "latency_p99_ms", "bytes", "rows_per_second")
UNITS = {
    "latency_ms": {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3},
    "bytes": {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20},
    "rows_per_second": {"": 1.0, "/s": 1.0, "k": 1e3},
}
UNITS["latency_p99_ms"] = UNITS["latency_ms"]
SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"([0-9][0-9_]*(?:\.[0-9_]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z/%µ]*)")


@dataclass(frozen=True)
class Wish:
    """Bounds as they were written: absolute ones, and shares of what the teacher needs (`0.1x`)."""

    absolute: Mapping[str, float]
    relative: Mapping[str, float]
    max_loss: float

    def budget(self, teacher: Mapping[str, float]) -> Budget:
        """The bounds in numbers; `teacher` is what it needs, by the names of the bounds."""
        bounds = {**self.absolute, **{name: share * teacher[name] for name, share in self.relative.items()}}
        whole = {name: round(value) if name == "bytes" else value for name, value in bounds.items()}
        return Budget.model_validate({**whole, "max_loss": self.max_loss})


def parse_budget(text: str, max_loss: str) -> Wish:
    """`latency_ms=1.0,bytes=100kB,rows_per_second=5x`: milliseconds, bytes, rows; `x` is times the teacher's.

    Raises UsageError for an unknown bound, one said twice, or a value that is none.
    """
    absolute: dict[str, float] = {}
    relative: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in BOUNDS:
            known = ", ".join(BOUNDS)
            raise UsageError(f"--budget {part}: expected one of {known} and a value, e.g. latency_ms=1.0,bytes=100kB")
        if name in absolute or name in relative:
            raise UsageError(f"--budget {part}: {name} was said before; expected each bound once")
        number, unit = _parsed(value, f"--budget {name}={value}")
        if unit == "x":
            relative[name] = number
        else:
            absolute[name] = number * _scale(unit, UNITS[name], f"--budget {name}={value}", extra=("x",))
        if number <= 0:
            raise UsageError(f"--budget {name}={value}: expected more than 0")
    if not absolute and not relative:
        raise UsageError(f"--budget '{text}': expected at least one of {', '.join(BOUNDS)}, e.g. bytes=100kB")
    return Wish(absolute, relative, parse_share(max_loss, "--max-loss"))


def parse_share(text: str, option: str) -> float:
    """`2%` or `0.02` as 0.02; raises UsageError outside 0 to 1."""
    number, unit = _parsed(text.strip(), f"{option} {text}")
    share = number * _scale(unit, {"": 1.0, "%": 0.01}, f"{option} {text}")
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {text}: expected a share from 0 % to 100 %, e.g. 2% or 0.02")
    return share


def parse_seconds(text: str, option: str) -> float:
    """`10min`, `90s`, `1h` in seconds; raises UsageError."""
    number, unit = _parsed(text.strip(), f"{option} {text}")
    seconds = number * _scale(unit, SECONDS, f"{option} {text}")
    if seconds <= 0:
        raise UsageError(f"{option} {text}: expected more than 0 s")
    return seconds


def _parsed(value: str, where: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(value)
    if not found:
        raise UsageError(f"{where}: expected a number with or without a unit, e.g. 100_000 or 100kB")
    return float(found[1].replace("_", "")), found[2]


def _scale(unit: str, known: Mapping[str, float], where: str, extra: tuple[str, ...] = ()) -> float:
    if unit.lower() not in known:
        listed = ", ".join(repr(name) for name in (*known, *extra) if name)
        raise UsageError(f"{where}: unknown unit '{unit}'; known: {listed}")
    return known[unit.lower()]
