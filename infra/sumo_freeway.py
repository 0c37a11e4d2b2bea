"""The freeway data set from a scenario: days of `infra.sumo`, joined into its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from infra import sumo
from infra.sumo_scenario import FreewayScenario


def wanted(scenario: Mapping[str, Any]) -> FreewayScenario:
    """The scenario as its record; raises ValueError for a setting that no freeway has."""
    settings = {name: value for name, value in scenario.items() if name != "kind"}
    known = [field.name for field in fields(FreewayScenario)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"freeway scenario: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    if "hours" in settings:
        settings["hours"] = tuple(settings["hours"])  # JSON has lists only
    return FreewayScenario(**settings)


def generate(scenario: Mapping[str, Any], folder: Path, num_processes: int) -> Iterator[tuple[int, int]]:
    """Simulate every day into `folder`/parts, then join them; yields (done, total). A rerun goes on behind a kill."""
    freeway, work = wanted(scenario), folder / "parts"
    for done, _ in enumerate(sumo.generate(freeway, work, num_processes), start=1):
        yield done, freeway.num_days
    sumo.collect(freeway, work, folder)
