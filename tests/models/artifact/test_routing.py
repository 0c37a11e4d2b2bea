"""Ways over a changing network: against every path tried by hand, and clear refusals."""

import itertools

import networkx as nx
import numpy as np
import pytest

from models.artifact.routing import RoutingError, depart_after, open_network, travel_time_s, ways
from models.data.card import RoadNetwork

SLOT_S = 300.0


def network(*rows: tuple[str, str, str, float]) -> RoadNetwork:
    edges, sources, targets, lengths = zip(*rows, strict=True)
    return RoadNetwork(edges=edges, sources=sources, targets=targets, length_m=lengths, speed_mps=(10.0,) * len(rows))


DIAMOND = network(("a-b", "a", "b", 100), ("b-d", "b", "d", 100), ("a-c", "a", "c", 100), ("c-d", "c", "d", 100),
                  ("d-e", "d", "e", 100))  # fmt: skip


def grid(size: int, seed: int) -> tuple[RoadNetwork, np.ndarray]:
    """A square grid with travel times of 20 to 200 s that wander over four slots."""
    random = np.random.default_rng(seed)
    pairs = [
        pair
        for i, j in itertools.product(range(size), repeat=2)
        for k, m in ((i + 1, j), (i, j + 1)) if max(k, m) < size
        for pair in ((f"{i}{j}", f"{k}{m}"), (f"{k}{m}", f"{i}{j}"))
    ]  # fmt: skip
    rows = [(f"{a}-{b}", a, b, 100.0) for a, b in pairs]
    times_s = random.uniform(20, 200, len(rows)) * np.exp(np.cumsum(random.normal(0, 0.2, (4, len(rows))), axis=0))
    return network(*rows), times_s.astype(np.float32)


def test_the_quickest_way_is_that_of_a_constant_network() -> None:
    times_s = np.array([[50, 50, 30, 40, 10]], np.float32)
    (way,) = ways(open_network(DIAMOND), times_s, SLOT_S, "a", "e")
    assert (way.nodes, way.edges) == (("a", "c", "d", "e"), ("a-c", "c-d", "d-e"))
    assert (way.travel_time_s, way.length_m) == (80.0, 300.0)


def test_an_edge_costs_what_it_costs_when_one_gets_there() -> None:
    later_jam = np.array([[200, 50, 190, 50, 10], [200, 50, 190, 600, 10], [200, 50, 190, 600, 10]], np.float32)
    graph = open_network(DIAMOND)
    assert ways(graph, later_jam, SLOT_S, "a", "e", depart_s=0)[0].nodes == ("a", "b", "d", "e")
    assert ways(graph, later_jam[:1], SLOT_S, "a", "e")[0].nodes == ("a", "c", "d", "e")


@pytest.mark.parametrize("seed", range(4))
def test_no_path_that_can_be_tried_is_quicker(seed: int) -> None:
    roads, times_s = grid(4, seed)
    graph = open_network(roads)
    (way,) = ways(graph, times_s, SLOT_S, "00", "33", depart_s=140)
    assert way.travel_time_s == pytest.approx(travel_time_s(graph, times_s, SLOT_S, way.edges, 140), rel=1e-9)
    tried = [
        travel_time_s(graph, times_s, SLOT_S, [f"{a}-{b}" for a, b in itertools.pairwise(path)], 140)
        for path in nx.all_simple_paths(nx.DiGraph(graph), "00", "33", cutoff=8)
    ]
    assert len(tried) > 50
    assert way.travel_time_s == pytest.approx(min(tried), rel=1e-6)


def test_alternatives_differ_and_are_not_much_longer() -> None:
    roads, times_s = grid(5, 1)
    found = ways(open_network(roads), times_s, SLOT_S, "00", "44", num_alternatives=3)
    assert len(found) == 4
    assert [way.travel_time_s for way in found] == sorted(way.travel_time_s for way in found)
    assert found[-1].travel_time_s <= 1.5 * found[0].travel_time_s
    for one, other in itertools.combinations(found, 2):
        assert len(set(one.edges) & set(other.edges)) < len(one.edges)


def test_parallel_edges_are_told_apart_and_an_edge_stands_for_its_end() -> None:
    roads = network(("old", "a", "b", 100), ("new", "a", "b", 300), ("on", "b", "c", 50))
    graph = open_network(roads)
    (way,) = ways(graph, np.array([[60, 20, 10]], np.float32), SLOT_S, "a", "on")
    assert way.edges == ("new", "on") and way.length_m == 350


@pytest.mark.parametrize(
    ("source", "target", "depart_s", "message"),
    [
        ("z", "e", 0, "from: unknown place 'z'; known nodes: a, b, c, d, e"),
        ("a", "q", 0, "to: unknown place 'q'"),
        ("e", "a", 0, "no way from e to a"),
        ("a", "a", 0, "expected another place"),
        ("a", "e", 301, "expected 0 to 300 s"),
        ("a", "e", -1, "expected 0 to 300 s"),
    ],
)
def test_what_cannot_be_routed_is_said(source: str, target: str, depart_s: float, message: str) -> None:
    with pytest.raises(RoutingError, match=message):
        ways(open_network(DIAMOND), np.full((1, 5), 10, np.float32), SLOT_S, source, target, depart_s)


@pytest.mark.parametrize("times_s", [np.ones((1, 4)), np.ones(5), np.full((1, 5), np.nan), np.zeros((2, 5))])
def test_times_that_are_none_are_refused(times_s: np.ndarray) -> None:
    with pytest.raises(RoutingError, match="edge times"):
        ways(open_network(DIAMOND), times_s.astype(np.float32), SLOT_S, "a", "e")


def test_an_unknown_edge_is_named() -> None:
    with pytest.raises(RoutingError, match="unknown edge 'x'; known: a-b"):
        travel_time_s(open_network(DIAMOND), np.ones((1, 5), np.float32), SLOT_S, ["x"], 0)


def test_a_time_of_day_becomes_seconds_from_now() -> None:
    assert depart_after(95, SLOT_S, 4, "08:00") == 0
    assert depart_after(95, SLOT_S, 4, "8:20:00") == 1200
    assert depart_after(287, SLOT_S, 4, "00:05") == 300
    with pytest.raises(RoutingError, match=r"expected 08:00 to 08:20, got 07:59"):
        depart_after(95, SLOT_S, 4, "07:59")
    with pytest.raises(RoutingError, match="expected a time of day"):
        depart_after(95, SLOT_S, 4, "25:00")
