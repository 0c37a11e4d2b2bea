"""The quickest way over a road network whose travel times change, and alternatives.

The search is networkx's Dijkstra; a street costs what it costs when one gets there (Cooke and Halsey, The shortest
route through a network with time-dependent internodal transit times, 1966). Between the middles of two slots travel
time is a straight line, so that it seldom pays to wait, which Dijkstra could not see. Alternatives come from the
penalty method (de la Barra et al., 1993): streets already used are made dearer; what is found must differ and not be
much longer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from models.data.card import RoadNetwork

Floats = NDArray[np.float64]

PENALTY = 1.4  # per use of a street by a way that was found before
MAX_STRETCH = 1.5  # an alternative takes at most this many times as long as the best way
MAX_SHARED = 0.8  # of an alternative's length may lie on one other way
NUM_NAMED = 20  # known names that a refusal lists


class RoutingError(ValueError):
    """A question that cannot be routed: an unknown place, no way there, a departure that nobody foresaw."""


@dataclass(frozen=True)
class Way:
    """One way from one node to another, with the travel time that is expected of it."""

    edges: tuple[str, ...]
    nodes: tuple[str, ...]
    travel_time_s: float
    length_m: float


def open_network(network: RoadNetwork) -> "nx.MultiDiGraph[str]":
    """The network as a graph: each edge with its key, `column` in the model's answer and `length_m`; make it once."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    rows = zip(network.edges, network.sources, network.targets, network.length_m, strict=True)
    for column, (name, source, target, length_m) in enumerate(rows):
        graph.add_edge(source, target, key=name, column=column, length_m=length_m)
    graph.graph["ends"] = dict(zip(network.edges, zip(network.sources, network.targets, strict=True), strict=True))
    return graph


def ways(
    graph: "nx.MultiDiGraph[str]",
    edge_times_s: NDArray[np.float32],
    slot_s: float,
    source: str,
    target: str,
    depart_s: float = 0.0,
    num_alternatives: int = 0,
) -> tuple[Way, ...]:
    """The quickest way and up to `num_alternatives` others, best first.

    edge_times_s: [H, E] what a car entering edge e in slot h needs; slot h is h to h+1 times `slot_s` after now.
    `depart_s` is after now too, inside the H slots; behind them the last slot's times hold on.
    `source` and `target` are nodes; an edge's name stands for the node that it leads to.
    Raises RoutingError for an unknown place, the same place twice, no way, a departure outside the slots, or times that
    are no positive numbers.
    """
    times_s = _checked_times(graph, edge_times_s)
    first, last = _node(graph, source, "from"), _node(graph, target, "to")
    horizon_s = len(times_s) * slot_s
    if not 0 <= depart_s <= horizon_s:
        raise RoutingError(f"depart: expected 0 to {horizon_s:.0f} s from now, as far as is foreseen, got {depart_s:g}")
    if first == last:
        raise RoutingError(f"to: expected another place than 'from', got {target} for both")
    if not nx.has_path(graph, first, last):
        raise RoutingError(f"no way from {source} to {target}: expected two places that streets join in this direction")
    penalty = np.ones(times_s.shape[1])
    found = [_quickest(graph, times_s, slot_s, first, last, depart_s, penalty)]
    for _ in range(3 * num_alternatives):
        if len(found) > num_alternatives:
            break
        columns = [_column(graph, edge) for edge in found[-1].edges]
        penalty[columns] *= PENALTY
        way = _quickest(graph, times_s, slot_s, first, last, depart_s, penalty)
        if way.travel_time_s <= MAX_STRETCH * found[0].travel_time_s and _differs(graph, way, found):
            found.append(way)
    return tuple(sorted(found, key=lambda way: way.travel_time_s))


def travel_time_s(
    graph: "nx.MultiDiGraph[str]",
    edge_times_s: NDArray[np.float32],
    slot_s: float,
    edges: Sequence[str],
    depart_s: float,
) -> float:
    """Seconds for these edges one after another, each at the time of getting there; raises RoutingError."""
    times_s, now_s = _checked_times(graph, edge_times_s), depart_s
    for edge in edges:
        now_s += _time_at(times_s[:, _column(graph, edge)], slot_s, now_s)
    return now_s - depart_s


def depart_after(slot: int, slot_s: float, horizon_steps: int, at: str) -> float:
    """Seconds from the end of `slot` of the day, the last that was seen, to the time of day `at` ("08:15").

    Raises RoutingError for what is no time of day, and outside the horizon.
    """
    parts = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", at)
    hour, minute, second = (int(part or 0) for part in parts.groups()) if parts else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise RoutingError(f"depart: expected a time of day such as 08:15 or 08:15:30, got '{at}'")
    now_s = (slot + 1) * slot_s
    depart_s = (hour * 3600 + minute * 60 + second - now_s) % 86_400
    if depart_s > horizon_steps * slot_s:
        last_s = now_s + horizon_steps * slot_s
        raise RoutingError(f"depart: expected {_time_of_day(now_s)} to {_time_of_day(last_s)}, got {at}")
    return float(depart_s)


def _time_of_day(at_s: float) -> str:
    return f"{int(at_s // 3600) % 24:02d}:{int(at_s // 60) % 60:02d}"


def _checked_times(graph: "nx.MultiDiGraph[str]", edge_times_s: NDArray[np.float32]) -> Floats:
    times_s = np.asarray(edge_times_s, np.float64)
    if times_s.ndim != 2 or times_s.shape[1] != graph.number_of_edges() or not len(times_s):
        raise RoutingError(f"edge times: expected slots x {graph.number_of_edges()} edges, got {times_s.shape}")
    if not (np.isfinite(times_s) & (times_s > 0)).all():
        raise RoutingError("edge times: expected positive numbers of seconds, got others among them")
    return times_s


def _node(graph: "nx.MultiDiGraph[str]", name: str, field: str) -> str:
    if name in graph:
        return name
    ends = graph.graph["ends"]
    if name in ends:
        return str(ends[name][1])
    known = sorted(graph)
    more = f" and {len(known) - NUM_NAMED} more" if len(known) > NUM_NAMED else ""
    raise RoutingError(f"{field}: unknown place '{name}'; known nodes: {', '.join(known[:NUM_NAMED])}{more}")


def _column(graph: "nx.MultiDiGraph[str]", edge: str) -> int:
    ends = graph.graph["ends"]
    if edge not in ends:
        raise RoutingError(f"unknown edge '{edge}'; known: {', '.join(sorted(ends)[:NUM_NAMED])} and others")
    return int(graph.edges[*ends[edge], edge]["column"])


def _time_at(slots_s: Floats, slot_s: float, at_s: float) -> float:
    """Travel time of an edge entered at `at_s`: linear between the middles of slots, constant outside them."""
    place = min(max(at_s / slot_s - 0.5, 0.0), len(slots_s) - 1.0)
    before = min(int(place), len(slots_s) - 2) if len(slots_s) > 1 else 0
    share = place - before
    return float(slots_s[before] * (1 - share) + (slots_s[before + 1] * share if share else 0.0))


def _quickest(
    graph: "nx.MultiDiGraph[str]", times_s: Floats, slot_s: float, source: str, target: str, depart_s: float,
    penalty: Floats,
) -> Way:  # fmt: skip
    """Dijkstra settles nodes by time of arrival, and asks for an edge's weight when its source is settled.

    So the earliest arrival at the source is known by then, and the edge can be weighed at that time.
    """
    arrival_s = {source: depart_s}
    seen_s = {source: depart_s}  # the same with penalties, in which Dijkstra counts
    chosen: dict[tuple[str, str], str] = {}

    def weigh(tail: str, head: str, parallel: dict[str, dict[str, float]]) -> float:
        """The cheapest of the parallel edges, entered when the tail is reached."""
        costs = {
            name: _time_at(times_s[:, int(edge["column"])], slot_s, arrival_s[tail]) for name, edge in parallel.items()
        }
        dear = {name: cost * penalty[int(parallel[name]["column"])] for name, cost in costs.items()}
        best = min(dear, key=lambda name: dear[name])
        chosen[tail, head] = best
        if seen_s[tail] + dear[best] < seen_s.get(head, np.inf):
            seen_s[head], arrival_s[head] = seen_s[tail] + dear[best], arrival_s[tail] + costs[best]
        return float(dear[best])

    nodes = nx.dijkstra_path(graph, source, target, weight=weigh)
    edges = tuple(chosen[pair] for pair in pairwise(nodes))
    length_m = sum(graph.edges[*pair, edge]["length_m"] for pair, edge in zip(pairwise(nodes), edges, strict=True))
    return Way(edges, tuple(nodes), arrival_s[target] - depart_s, float(length_m))


def _differs(graph: "nx.MultiDiGraph[str]", way: Way, others: Sequence[Way]) -> bool:
    """Whether at most MAX_SHARED of its length lies on any one of the others."""
    lengths = {
        edge: graph.edges[*pair, edge]["length_m"] for pair, edge in zip(pairwise(way.nodes), way.edges, strict=True)
    }
    shared = (sum(lengths[edge] for edge in set(way.edges) & set(other.edges)) for other in others)
    return bool(max(shared) <= MAX_SHARED * way.length_m)
