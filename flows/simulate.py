"""A simulated freeway of any size as a data set, generated day by day with SUMO."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flows import console
from flows.bring import Source, add_dataset
from flows.options import UsageError
from flows.workshop import Workshop


def simulate_freeway(shop: Workshop, name: str, days: int, stations: int, seed: int, processes: int) -> dict[str, Any]:
    """Simulate, collect and add; a day that was simulated before a kill is not simulated again.

    Raises UsageError when the extra `sim` is not installed.
    """
    if find_spec("sumo") is None:
        raise UsageError("SUMO is not installed; install the extra: .venv/bin/python -m pip install -e '.[sim]'")
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
