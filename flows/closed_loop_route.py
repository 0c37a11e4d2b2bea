"""Routes in closed loop: trips that works concern, planned by each method and driven.

The map is that of the data set, the days are none of its: another demand, other works. All methods answer the same
questions at the same times and their cars share the streets, so one simulation gives the rows of all of them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import infra
from flows.closed_loop import Plan, Run
from flows.compress import PARCEL, pack
from flows.live import parcel_folder
from flows.options import UsageError
from flows.train import Variant, fit, variants
from infra.sumo_works import scenario_of
from models import catalog
from models.datasets import city_travel_times

if TYPE_CHECKING:
    from flows.session import Session
    from infra.sumo_drive import Planner

WORK = "flows.closed_loop_route:drive_day"
SCENARIO = "works"
WORKING_DAYS, LAST_SEED = 5, 100_000
CONVENTION = (
    "Counted: seconds from the wish to depart to the arrival, mean over the trips of a morning whose free-flow way "
    "leads over works; nobody is told of works before they are announced, or of a travel time before a car reported it."
)
SIMULATION = ("sumo_works_scenario", "sumo_works", "sumo_drive", "sumo_tools")
Rows = list[tuple[str, int, str, float]]


def refuse_seen(seeds: Sequence[int]) -> None:
    """Raises UsageError for days that travel times were learned from."""
    num_days = scenario_of(city_travel_times.SCENARIO).num_days
    if day_of(min(seeds)) < num_days or max(seeds) >= LAST_SEED:
        raise UsageError(
            f"judge.closed_loop_first_seed={min(seeds)}: expected seeds from {num_days // 7 + 1} to {LAST_SEED - 1}; "
            f"each is a day, and travel times are learned from the first {num_days}"
        )


def day_of(seed: int) -> int:
    """The working day, counted from a Monday, that a seed stands for."""
    return 7 * seed + seed % WORKING_DAYS


def plan(session: "Session", candidate: str, parcel: Path, digest: str, seeds: Sequence[int]) -> Plan:
    """One morning for each seed, with the candidate and all baselines in it. Raises UsageError for brought data."""
    recipe = session.recipe
    if recipe.data.name != city_travel_times.CARD.name:
        raise UsageError(
            f"{recipe.data.name}: routes are judged by driving them; expected {city_travel_times.CARD.name}"
        )
    scenario = dict(city_travel_times.SCENARIO)
    if recipe.data.seed is not None:
        scenario["seed"] = recipe.data.seed
    folders, digests = {candidate: str(parcel)}, {candidate: digest}
    for variant in variants(recipe):
        if catalog.family(recipe.task, variant.family).is_baseline and variant.name != candidate:
            folders[variant.name], digests[variant.name] = _parcel_of(session, variant)
    runs = [
        Run(WORK, {"scenario": scenario, "seed": seed, "digests": digests}, {"parcels": folders}, code_digest())
        for seed in seeds
    ]
    references = tuple(name for name in digests if name != candidate)
    return Plan(runs, candidate, references, "mean travel time", "s", CONVENTION)


def _parcel_of(session: "Session", variant: Variant) -> tuple[str, str]:
    """Folder and digest of a baseline's parcel: the one that was judged, else fitted and packed as it would be."""
    if (judged := session.parcels.get(variant.name)) is not None:
        return str(parcel_folder(session.shop, judged)), judged
    if f"fit {variant.name}" not in session.steps:
        fit(session, variant)
    done = pack(session, variant)
    return str(done.folder / PARCEL), done.notes["digest"]


def drive_day(scenario: Mapping[str, Any], seed: int, digests: Mapping[str, str], parcels: Mapping[str, str]) -> Rows:
    """One working day that no data set has, with a planner for each parcel; their mean travel times."""
    from infra.sumo_drive import drive

    planners = {name: parcel_planner(Path(parcels[name]), digest) for name, digest in sorted(digests.items())}
    num_past, num_ahead = city_travel_times.NUM_PAST, city_travel_times.NUM_AHEAD
    driven = drive(scenario_of(scenario), day_of(seed), planners, num_past, num_ahead)
    if not driven:
        raise UsageError(f"seed {seed}: no works lie in anybody's way on this day; choose other seeds")
    found: dict[str, list[float]] = {name: [] for name in planners}
    for one in driven:
        found[one.planner].append(one.travel_time_s)
    return [(SCENARIO, seed, name, round(sum(times) / len(times), 3)) for name, times in found.items()]


def parcel_planner(parcel: Path, digest: str) -> "Planner":
    """Plans over the travel times that a parcel foresees, through the predictor that serves; raises ParcelError."""
    from infra.sumo_drive import Question, Seen
    from models.artifact.manifest import ParcelError
    from models.artifact.predictor import Predictor
    from models.artifact.routing import open_network, ways

    predictor = Predictor.open(parcel)
    manifest = predictor.manifest
    if manifest.digest() != digest or manifest.network is None:
        raise ParcelError(f"{parcel}: expected parcel {digest[:12]} with a network, got {manifest.digest()[:12]}")
    graph, slot_s = open_network(manifest.network), manifest.cadence_min * 60

    def plan_ways(seen: Seen, questions: Sequence[Question]) -> list[tuple[str, ...]]:
        inputs: dict[str, NDArray[Any]] = {
            "recent": seen.reported_s[None], "works": seen.works[None], "slot": seen.clock[None, :1],
            "weekday": seen.clock[None, 1:],
        }  # fmt: skip
        times_s = np.maximum(predictor.predict(inputs)[0], 1.0)  # [H, E]; rounding to int8 must not end below 0
        return [
            ways(graph, times_s, slot_s, one.source, one.target, one.depart_s - seen.now_s)[0].edges
            for one in questions
        ]

    return plan_ways


def code_digest() -> str:
    """SHA-256 over what simulates and what plans: another line of either is another loop."""
    folder, digest = Path(infra.__path__[0]), hashlib.sha256()
    for name in SIMULATION:
        digest.update((folder / f"{name}.py").read_bytes())
    digest.update((Path(catalog.__file__).parent / "artifact" / "routing.py").read_bytes())
    return digest.hexdigest()
