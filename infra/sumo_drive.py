"""Drives planned routes through the simulated city, so that planners can be judged.

Every five minutes each planner is told what floating cars reported up to then and which works are announced, as a
routing service would be, and answers the same questions. The cars that it sends drive in the same traffic side by side:
the planners are compared on equal streets, and a few more cars among hundreds change them for nobody.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from infra.sumo_tools import program
from infra.sumo_works import sumo_options
from infra.sumo_works_scenario import SLOT_S, WorksScenario, announced, weekday, works

PATIENCE_S = 3600  # simulated behind the last hour for those who are still under way
REACH_S = 600  # works that begin so soon after the slot's beginning may concern who departs in it
MIN_BLOCKS = 4  # between the ends of a question's free-flow way
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """From one junction to another at `depart_s` after midnight."""

    number: int
    source: str
    target: str
    depart_s: float


@dataclass(frozen=True)
class Seen:
    """What is known at the end of a slot: reported seconds [T, E] (NaN: nobody), announced works [H, E], clock [2]."""

    reported_s: Floats
    works: Floats
    clock: NDArray[np.int64]

    @property
    def now_s(self) -> float:
        """Seconds after midnight."""
        return float(self.clock[0] + 1) * SLOT_S


class Planner(Protocol):
    """Answers each question with the streets to take."""

    def __call__(self, seen: Seen, questions: Sequence[Question]) -> Sequence[Sequence[str]]: ...


@dataclass(frozen=True)
class Drive:
    """A question's answer by one planner, driven; the travel time counts from the wish to depart."""

    number: int
    planner: str
    depart_s: float
    travel_time_s: float
    has_arrived: bool
    streets: tuple[str, ...]


@dataclass
class Reports:
    """Collects from floating cars how long they needed for each street, by the slot in which they left it."""

    columns: dict[str, int]
    begin_s: float
    under_way: dict[str, tuple[str, float, bool]] = field(default_factory=dict)  # street, entered, whether in full
    sums: dict[int, Floats] = field(default_factory=dict)  # slot -> [2, E]: seconds, cars

    def at(self, now_s: float, places: Mapping[str, str], arrived: Sequence[str]) -> None:
        """Where each floating car is at simulated time `now_s`, and who has arrived."""
        for car, street in places.items():
            known = self.under_way.get(car)
            if known is None:
                self.under_way[car] = (street, now_s, False)
            elif known[0] != street:
                self._left(known, now_s)
                self.under_way[car] = (street, now_s, True)
        for car in arrived:
            if car in self.under_way:
                self._left(self.under_way.pop(car), now_s)

    def _left(self, known: tuple[str, float, bool], now_s: float) -> None:
        street, entered_s, in_full = known
        if in_full:
            slot = int(now_s + self.begin_s) // SLOT_S
            sums = self.sums.setdefault(slot, np.zeros((2, len(self.columns)), np.float32))
            sums[:, self.columns[street]] += (now_s - entered_s, 1)

    def means(self, slots: range) -> Floats:
        """Mean seconds [slots, E], NaN where nobody reported."""
        empty = np.zeros((2, len(self.columns)), np.float32)
        rows = np.stack([self.sums.get(slot, empty) for slot in slots])
        return np.asarray(np.where(rows[:, 1] > 0, rows[:, 0] / np.maximum(rows[:, 1], 1), np.nan), np.float32)


def questions(scenario: WorksScenario, day: int, slot: int, number: int) -> tuple[Question, ...]:
    """`number` questions for departures in a slot, whose free-flow way leads over works; none where there are none."""
    random = scenario.stream(day, f"questions {slot}")
    begin_s, names = slot * SLOT_S, list(scenario.city.places)
    closed = {one.street for one in works(scenario, day) if one.start_s < begin_s + REACH_S and begin_s < one.end_s}
    graph, found = scenario.city.graph(scenario.city.free_flow_s()), list[Question]()
    for _ in range(200 if closed else 0):
        source, target = (names[index] for index in random.choice(len(names), 2, replace=False))
        path = nx.dijkstra_path(graph, source, target, weight="time_s")
        if len(path) > MIN_BLOCKS and closed & {f"{a}-{b}" for a, b in pairwise(path)}:
            depart_s = round(float(begin_s + random.uniform(0, SLOT_S)))
            found.append(Question(1000 * slot + len(found), source, target, depart_s))
        if len(found) == number:
            break
    return tuple(found)


def drive(
    scenario: WorksScenario, day: int, planners: Mapping[str, Planner], num_past: int, num_ahead: int, per_slot: int = 3
) -> list[Drive]:
    """One day with every planner's cars in it; runs SUMO inside this process, so give it a process of its own.

    Raises RuntimeError when the extra `sim` is not installed.
    """
    import libsumo

    with tempfile.TemporaryDirectory() as name:
        options = sumo_options(scenario, day, Path(name))
        libsumo.start([program("sumo"), *options])
        drives = list(_drive(libsumo, scenario, day, planners, (num_past, num_ahead, per_slot)))
        libsumo.close()
    return sorted(drives, key=lambda one: (one.number, one.planner))


def _drive(
    sumo: Any, scenario: WorksScenario, day: int, planners: Mapping[str, Planner], sizes: tuple[int, int, int]
) -> Iterator[Drive]:
    num_past, num_ahead, per_slot = sizes
    reports = Reports({name: i for i, name in enumerate(scenario.city.streets)}, scenario.begin_s)
    asking = range(scenario.slots.start + num_past, scenario.slots.stop - 1)
    waiting: dict[str, Drive] = {}
    last_s = scenario.hours[1] * 3600 - scenario.begin_s
    while (now_s := sumo.simulation.getTime()) < last_s or (waiting and now_s < last_s + PATIENCE_S):
        slot, into_s = divmod(int(now_s + scenario.begin_s), SLOT_S)
        if into_s == 0 and slot in asking:
            seen = Seen(
                reports.means(range(slot - num_past, slot)),
                announced(scenario, day, range(slot, slot + num_ahead)).astype(np.float32),
                np.array([slot - 1, weekday(day)]),
            )
            waiting |= _send(sumo, scenario, seen, planners, questions(scenario, day, slot, per_slot), day)
        sumo.simulationStep()
        yield from _watch(sumo, scenario, reports, waiting)
    end_s = sumo.simulation.getTime() + scenario.begin_s
    for one in waiting.values():
        yield Drive(one.number, one.planner, one.depart_s, end_s - one.depart_s, False, one.streets)


def _send(
    sumo: Any, scenario: WorksScenario, seen: Seen, planners: Mapping[str, Planner], asked: Sequence[Question], day: int
) -> dict[str, Drive]:
    """Ask every planner and put its cars on the road, in an order that is drawn for each question."""
    answers = {name: planner(seen, asked) for name, planner in planners.items()} if asked else {}
    sent, random = {}, scenario.stream(day, f"order {seen.clock[0]}")
    for index, question in enumerate(asked):
        for name in random.permutation(sorted(planners)).tolist():
            car, streets = f"p{question.number}-{name}", tuple(answers[name][index])
            sumo.route.add(car, streets)
            depart = str(question.depart_s - scenario.begin_s)
            sumo.vehicle.add(car, car, typeID="probe", depart=depart, departLane="best", departSpeed="max")
            sent[car] = Drive(question.number, name, question.depart_s, 0.0, False, streets)
    return sent


def _watch(sumo: Any, scenario: WorksScenario, reports: Reports, waiting: dict[str, Drive]) -> Iterator[Drive]:
    """One step: floating cars report, and the planners' cars that have arrived are handed over."""
    now_s, road = sumo.simulation.getTime(), sumo.constants.VAR_ROAD_ID
    for car in sumo.simulation.getDepartedIDList():
        if car.startswith("f"):
            sumo.vehicle.subscribe(car, (road,))
    arrived = sumo.simulation.getArrivedIDList()
    places = {car: row[road] for car, row in sumo.vehicle.getAllSubscriptionResults().items() if row[road]}
    reports.at(now_s, places, arrived)
    for car in arrived:
        if car in waiting:
            one = waiting.pop(car)
            taken_s = now_s + scenario.begin_s - one.depart_s
            yield Drive(one.number, one.planner, one.depart_s, taken_s, True, one.streets)
