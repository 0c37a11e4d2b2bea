"""Simulates what a scenario and a seed give, once, and keeps it by its content."""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

import infra
from flows import console
from flows.bring import Source, add_dataset
from flows.options import UsageError
from flows.workshop import Workshop
from infra.atomic import write_atomic

SIMULATED = "simulated.json"


def scenario_fingerprint(scenario: Mapping[str, Any]) -> str:
    """SHA-256 over the scenario and the code that generates it: another line of code is another data set."""
    digest = hashlib.sha256(json.dumps(scenario, sort_keys=True).encode())
    for path in sorted(Path(infra.__path__[0]).glob("sumo*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def simulated(shop: Workshop, scenario: Mapping[str, Any]) -> Path:
    """The folder of this scenario's files, simulated when it is not here yet; a kill loses the parts under way.

    Raises UsageError when the extra `sim` is not installed.
    """
    name = f"{scenario['kind']}-{scenario['seed']}"
    folder = shop.home / "cache" / "simulated" / f"{scenario['kind']}-{scenario_fingerprint(scenario)[:24]}"
    if (folder / SIMULATED).exists():
        return folder
    _need_sumo(name)
    folder.mkdir(parents=True, exist_ok=True)
    generator = importlib.import_module(f"infra.sumo_{scenario['kind']}")
    with FileLock(folder.with_suffix(".lock")), console.progress() as bar:
        task = bar.add_task(f"simulate {name}", total=1.0, note="")
        if not (folder / SIMULATED).exists():
            for done, total in generator.generate(scenario, folder, os.cpu_count() or 1):
                bar.update(task, completed=done / total, note=f"{done} of {total}")
            write_atomic(folder / SIMULATED, json.dumps(scenario, sort_keys=True).encode())
    return folder


def _need_sumo(name: str) -> None:
    if find_spec("sumo") is None or find_spec("libsumo") is None:
        raise UsageError(
            f"{name}: SUMO is not installed; install the extra: .venv/bin/python -m pip install -e '.[sim]'"
        )


def simulate_freeway(shop: Workshop, name: str, days: int, stations: int, seed: int, processes: int) -> dict[str, Any]:
    """Simulate, collect and add; a day that was simulated before a kill is not simulated again.

    Raises UsageError when the extra `sim` is not installed.
    """
    _need_sumo(name)
    from infra.sumo import collect, generate
    from infra.sumo_scenario import FreewayScenario

    scenario = FreewayScenario(num_days=days, num_stations=stations, seed=seed)
    work = shop.home / "work" / "simulate" / name
    with console.progress() as bar:
        task = bar.add_task(f"simulate {name}", total=days, note="")
        for part in generate(scenario, work, processes):
            bar.update(task, advance=1, note=part.name)
    target = collect(scenario, work, work / "collected")
    return add_dataset(shop, name, _source(target))


def _source(path: Path) -> Source:
    channels = ("speed_kmh", "flow_vph", "occupancy_pct")
    units = "km/h,veh/h,%"
    return Source(kind="long", path=path, unit=units, time="time", node="station", values=channels, cadence="5min")
