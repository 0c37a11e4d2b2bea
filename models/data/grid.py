"""The regular grid of times that a long table must fit: cadence, gaps, and the dense array."""

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract
from models.data.findings import Finding, RowName, Severity, found_at

MINUTE_US = 60_000_000
MINUTES_PER_DAY = 1440


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key under which s2 comes before s10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)


def clock_text(time_us: int) -> str:
    """A time as findings show it."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[s]")).replace("T", " ")


def cadence(times_us: NDArray[np.int64], contract: Contract, label: str) -> tuple[float, list[Finding]]:
    """Cadence in minutes, the commonest step of these sorted distinct times, against what the contract says."""
    if len(times_us) < max(2, contract.min_steps):
        return 0.0, [Finding("all", label, f"at least {contract.min_steps} steps", f"{len(times_us)} steps")]
    steps, counts = np.unique(np.diff(times_us), return_counts=True)
    found = float(steps[counts.argmax()]) / MINUTE_US
    expected = contract.cadence_min or found
    if abs(found - expected) > 1e-9:
        return expected, [Finding("all", label, f"every {expected:g} min", f"mostly every {found:g} min")]
    slots = MINUTES_PER_DAY / expected
    if abs(slots - round(slots)) > 1e-9 or round(slots) < 1:
        return expected, [Finding("all", label, "a cadence that divides a day", f"{expected:g} min")]
    return expected, []


def off_grid(
    times_us: NDArray[np.int64], distinct_us: NDArray[np.int64], rows: RowName, cadence_us: int, label: str
) -> list[Finding]:
    """Times that are not a whole number of steps away from most others."""
    phase = distinct_us % cadence_us
    phases, counts = np.unique(phase, return_counts=True)
    bad = distinct_us[phase != phases[counts.argmax()]]
    places = ((rows(int((times_us == time_us).argmax())), label, clock_text(time_us)) for time_us in bad)
    return found_at(places, len(bad), f"a time on the grid of {cadence_us / MINUTE_US:g} min")


def gaps(times_us: NDArray[np.int64], cadence_us: int, contract: Contract, label: str) -> list[Finding]:
    """Steps at which no node has a value, `times_us` being the sorted distinct times at which one has."""
    missing = np.diff(times_us) // cadence_us - 1
    holes = np.flatnonzero(missing > 0)
    if not holes.size:
        return []
    longest = int(holes[missing[holes].argmax()])
    begin, end = clock_text(times_us[longest] + cadence_us), clock_text(times_us[longest + 1] - cadence_us)
    too_long = contract.max_gap_steps is not None and missing[longest] > contract.max_gap_steps
    expected = f"gaps of at most {contract.max_gap_steps} steps" if too_long else "a value at every step"
    got = f"{int(missing[holes].sum())} steps in {holes.size} gaps, the longest {missing[longest]}"
    severity: Severity = "error" if too_long else "warning"
    return [Finding(f"{begin} to {end}", label, expected, got, int(missing[holes].sum()), severity)]


def missing(num_observed: int, num_expected: int, channel: str, contract: Contract) -> list[Finding]:
    """The share of values missing from one channel's whole grid."""
    count = num_expected - num_observed
    if not count:
        return []
    share, limit = count / num_expected, contract.max_missing_share
    severity: Severity = "error" if share > limit else "warning"
    expected = f"at most {limit:.0%} missing"
    return [Finding("all", channel, expected, f"{share:.2%} ({count} of {num_expected})", count, severity)]


def dense(
    step: NDArray[np.int64], node: NDArray[np.int64], columns: list[pl.Series], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The long columns as one array (S, N, C), NaN where the table has no row or no value."""
    values = np.full((*shape, len(columns)), np.nan, dtype=np.float32)
    for channel, column in enumerate(columns):
        values[step, node, channel] = column.to_numpy()
    return values


def dead(values: NDArray[np.float32], nodes: tuple[str, ...], channel: str) -> list[Finding]:
    """Nodes whose target (S, N) never changes, or is never seen; an error when that is all of them."""
    low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    still = np.flatnonzero(~(high > low))
    severity: Severity = "error" if len(still) == len(nodes) else "warning"
    got = ((nodes[i], "no value" if np.isnan(low[i]) else f"always {low[i]:g}") for i in still)
    places = (("all", f"{channel} of {name}", text) for name, text in got)
    return found_at(places, len(still), "a sensor that varies", severity)


def leaks(values: NDArray[np.float32], channels: tuple[str, ...], max_lead: int = 12) -> list[Finding]:
    """Channels (S, N, C) that are the target itself, of the same step or of one up to `max_lead` steps later."""
    findings = []
    for channel in range(1, len(channels)):
        for lead in range(max_lead + 1):
            now, later = values[: len(values) - lead, :, channel], values[lead:, :, 0]
            both = ~np.isnan(now) & ~np.isnan(later)
            if both.sum() > 100 and (now[both] == later[both]).mean() > 0.999 and later[both].std() > 0:
                got = f"{channels[0]} of {lead} steps later" if lead else f"a copy of {channels[0]}"
                findings.append(Finding("all", channels[channel], "a channel not derived from the target", got))
                break
    return findings
