"""Reads and checks a road network: edges, where they lead, how long and fast they are.

A network that is wrong anywhere routes wrongly somewhere, so everything that is wrong is found at once and named.
"""

from pathlib import Path

import polars as pl

from models.data.card import RoadNetwork
from models.data.findings import Finding

COLUMNS = ("edge", "source", "target", "length_m", "speed_mps")


def read_network(path: Path) -> tuple[RoadNetwork | None, tuple[Finding, ...]]:
    """The network in a CSV file with COLUMNS, and what is wrong with it; None where it cannot be used at all."""
    if not path.is_file():
        return None, (Finding("all", path.name, "a table of edges", "no such file"),)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    heads = lines[0].split(",") if lines else []
    if missing := [name for name in COLUMNS if name not in heads]:
        return None, (Finding("1", path.name, f"columns {', '.join(COLUMNS)}", f"none named {', '.join(missing)}"),)
    frame = pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True, encoding="utf8-lossy")
    numbers = frame.select(pl.col("length_m", "speed_mps").cast(pl.Float64, strict=False).fill_null(float("nan")))
    network = RoadNetwork(
        edges=tuple(frame["edge"].fill_null("")),
        sources=tuple(frame["source"].fill_null("")),
        targets=tuple(frame["target"].fill_null("")),
        length_m=tuple(numbers["length_m"]),
        speed_mps=tuple(numbers["speed_mps"]),
    )
    findings = check_network(network)
    return (None if any(finding.severity == "error" for finding in findings) else network), findings


def check_network(network: RoadNetwork) -> tuple[Finding, ...]:
    """Everything that is wrong: sizes, names, lengths, speeds; a warning where some places cannot be reached."""
    sizes = {name: len(getattr(network, name)) for name in ("edges", "sources", "targets", "length_m", "speed_mps")}
    if len(set(sizes.values())) > 1:
        return (Finding("all", "network", "as many values in every column", str(sizes)),)
    if not network.edges:
        return (Finding("all", "network", "at least one edge", "none"),)
    findings, seen = [], set[str]()
    for row, edge in enumerate(network.edges, start=1):
        if not edge or edge in seen:
            findings.append(Finding(str(row), "edge", "a name that no other edge has", f"'{edge}'"))
        seen.add(edge)
        source, target = network.sources[row - 1], network.targets[row - 1]
        if not source or not target or source == target:
            findings.append(Finding(str(row), "source, target", "two different nodes", f"'{source}' and '{target}'"))
        for name in ("length_m", "speed_mps"):
            value = getattr(network, name)[row - 1]
            if not 0 < value < float("inf"):
                findings.append(Finding(str(row), name, "a number above 0", f"{value:g}"))
    return (*findings, *([] if findings else _unreachable(network)))


def _unreachable(network: RoadNetwork) -> list[Finding]:
    import networkx as nx  # only here: every look into the catalog imports the data sets, and with them this module

    graph: nx.DiGraph[str] = nx.DiGraph(zip(network.sources, network.targets, strict=True))
    parts = sorted(nx.strongly_connected_components(graph), key=len, reverse=True)
    if len(parts) == 1:
        return []
    apart = sorted(node for part in parts[1:] for node in part)
    expected, got = "every node reachable from every other", f"not {', '.join(apart[:8])}"
    return [Finding("all", "network", expected, got, severity="warning", count=len(apart))]
