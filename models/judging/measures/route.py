"""Measures travel times: errors of edges as often as cars drive them, and of whole ways."""

from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.artifact.routing import open_network, travel_time_s
from models.data.card import RoadNetwork
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.findings import Findings
from models.judging.metrics import ErrorSums
from models.judging.record import Metric, Slice

PER_CAR = "per car"
NUM_WAYS = 40  # over which whole travel times are compared, one sample after another
JAMMED = 2.0  # times free flow and more

Values = NDArray[np.float64]


def measure(answers: NDArray[np.float32], samples: ExampleSamples, manifest: Manifest) -> Findings:
    """The MAE over cars decides: an edge and slot counts by its cars (fact `cars`), each as one where none are told.

    answers: (S, H, E) seconds. Beside it RMSE, WAPE, bias, the MAE by slots ahead and on jammed edges, and the error of
    the travel times of ways as they would be driven.
    """
    target, known = samples.all_targets()
    weight = known.astype(np.float64)
    if "cars" in samples.examples.facts:
        weight *= samples.fact("cars")
    sums = _sums(answers, target, weight, (1, 2))
    total = sums.over()
    bias = float((weight * (answers - target)).sum() / max(weight.sum(), 1.0))
    figures = {"mae": (total.mae()[0], "s"), "rmse": (total.rmse()[0], "s"), "wape": (total.wape()[0], "")}
    figures["bias"] = (bias, "s")
    if manifest.network is not None:
        figures["way_error"] = (_way_error(answers, target, known, manifest), "")
    metrics = [
        Metric(name=name, value=float(value), convention="per way" if name == "way_error" else PER_CAR, unit=unit)
        for name, (value, unit) in figures.items()
        if np.isfinite(value)
    ]
    slices = _ahead(answers, target, weight, manifest.cadence_min)
    if manifest.network is not None:
        slices += _jammed(answers, target, weight, manifest.network)
    errors = Errors(sums.absolute, sums.count, samples.groups, "blocks")
    return Findings(errors, "MAE", PER_CAR, "s", metrics, slices)


def _sums(
    answers: NDArray[np.float32], target: NDArray[np.float32], weight: Values, axis: tuple[int, ...]
) -> ErrorSums:
    error = answers.astype(np.float64) - target
    return ErrorSums(
        (np.abs(error) * weight).sum(axis=axis),
        (np.square(error) * weight).sum(axis=axis),
        (np.abs(target) * weight).sum(axis=axis),
        weight.sum(axis=axis),
    )


def _ahead(
    answers: NDArray[np.float32], target: NDArray[np.float32], weight: Values, cadence_min: float
) -> list[Slice]:
    """By how far ahead an edge is entered."""
    sums = _sums(answers, target, weight, (0, 2))  # (H,)
    names = [f"{h * cadence_min:g} to {(h + 1) * cadence_min:g} min" for h in range(target.shape[1])]
    return _slices(sums, names, "ahead")


def _jammed(
    answers: NDArray[np.float32], target: NDArray[np.float32], weight: Values, network: RoadNetwork
) -> list[Slice]:
    """Edges that take JAMMED times as long as empty, or longer, and the others."""
    free_s = np.array(network.length_m) / np.array(network.speed_mps)
    is_jammed = target >= JAMMED * free_s
    parts = [_sums(answers, target, weight * part, (0, 1, 2)) for part in (~is_jammed, is_jammed)]
    names = [f"below {JAMMED:g} times free flow", f"{JAMMED:g} times and more"]
    return [found for sums, name in zip(parts, names, strict=True) for found in _slices(sums, [name], "edge")]


def _slices(sums: ErrorSums, names: list[str], kind: str) -> list[Slice]:
    mae, count = np.atleast_1d(sums.mae()), np.atleast_1d(sums.count)
    return [
        Slice(kind=kind, name=name, error=float(mae[i]), num_values=int(count[i]))
        for i, name in enumerate(names)
        if count[i] > 0
    ]


def _way_error(
    answers: NDArray[np.float32], target: NDArray[np.float32], known: NDArray[np.float32], manifest: Manifest
) -> float:
    """Mean relative error of the travel time of ways that a map would give; unknown edges count as foreseen."""
    network, slot_s = manifest.network, manifest.cadence_min * 60
    assert network is not None
    graph, ways = open_network(network), _ways(network)
    truth = np.where(known > 0, target, answers)
    errors = []
    for sample in range(len(answers)):
        way = ways[sample % len(ways)]
        actual_s = travel_time_s(graph, truth[sample], slot_s, way, 0.0)
        errors.append(
            abs(travel_time_s(graph, np.maximum(answers[sample], 1.0), slot_s, way, 0.0) - actual_s) / actual_s
        )
    return float(np.mean(errors)) if errors else float("nan")


def _ways(network: RoadNetwork) -> list[tuple[str, ...]]:
    """Up to NUM_WAYS shortest ways between places drawn once and for all, of two edges and more."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, source, target, length_m in zip(
        network.edges, network.sources, network.targets, network.length_m, strict=True
    ):
        graph.add_edge(source, target, name=name, length_m=length_m)
    random, nodes, found = np.random.default_rng(20260101), sorted(graph), []
    for _ in range(10 * NUM_WAYS):
        source, target = (nodes[index] for index in random.choice(len(nodes), 2, replace=False))
        path = nx.dijkstra_path(graph, source, target, "length_m") if nx.has_path(graph, source, target) else []
        if len(path) > 2:
            found.append(tuple(str(graph.edges[pair]["name"]) for pair in pairwise(path)))
        if len(found) == NUM_WAYS:
            break
    return found
