"""Holds the command that plans a way over a road network."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import AsJson, ProductName
from flows.workshop import open_workshop

app = typer.Typer()


@app.command()
def route(
    product: ProductName,
    source: Annotated[str, typer.Option("--from", help="A node, or an edge for the node that it leads to.")],
    target: Annotated[str, typer.Option("--to", help="A node, or an edge for the node that it leads to.")],
    depart: Annotated[str, typer.Option(help="Time of day inside the horizon, 08:15; default: now.")] = "",
    alternatives: Annotated[int, typer.Option(min=0, max=5, help="Ways besides the quickest.")] = 0,
    file: Annotated[
        Path | None, typer.Option("--input", help='The state of the network, {"data": …}; default: the last held back.')
    ] = None,
    url: Annotated[str, typer.Option(help="Ask this running service instead of opening the parcel here.")] = "",
    send_key: Annotated[bool, typer.Option("--send-key", help="This home's key also to another machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan the quickest way with the travel times that what is live foresees, and alternatives to it.

    Example: roadworthy route city_travel_times --from A0 --to F4 --depart 09:10 --alternatives 2
    """
    from flows.route import Wish, find_ways

    wish = Wish(source, target, depart, alternatives)
    record = find_ways(open_workshop(), product, wish, file, url, send_key=send_key)
    if as_json:
        console.emit(record)
        return
    ways = [record, *record["alternatives"]]
    rows = [
        [f"{way['travel_time_s'] / 60:.1f}", f"{way['length_m'] / 1000:.2f}", " ".join(way["nodes"])] for way in ways
    ]
    console.table(f"{source} to {target}, {record['model_version']}", ["minutes", "km", "by way of"], rows)
