"""Commands that put a version on the road and take it off: deploy, roll-out, replay."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows import console
from flows.options import AsJson, ProductName, UsageError
from flows.workshop import open_workshop

app = typer.Typer()
REFUSED = 3
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

Disagreement = Annotated[float, typer.Option(min=0, max=1, help="Mean difference of answers, as a share of scale.")]
ErrorShare = Annotated[float, typer.Option(min=0, max=1, help="Share of failed requests.")]
LatencyRatio = Annotated[float, typer.Option(min=1, help="p99 against that of the deployed version.")]


@app.command()
def deploy(
    product: ProductName,
    engine: Annotated[Literal["process", "container"], typer.Option(help="What a replica is.")] = "process",
    replicas: Annotated[int, typer.Option(min=1, help="So many servers behind the router.")] = 1,
    port: Annotated[int | None, typer.Option(help="The router's; default: the product's own, from 3000.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Default: --port and 1000.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Ask nobody for a key; loopback only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put the live version on the road: supervised replicas behind a router, each checked with its golden request.

    Example: roadworthy deploy freeway --replicas 2
    """
    from flows.deploy import deploy as begin

    record = begin(open_workshop(), product, engine, replicas, port, grpc_port, is_open=is_open)
    if as_json:
        console.emit(record)
        return
    console.say(f"{product} version {record['version']} ({record['engine']}): {record['url']}, gRPC {record['grpc']}")
    rows = [[one["name"], one["url"], one.get("weight", 0.0)] for one in (*record["replicas"], *record["previous"])]
    console.table("Replicas", ["name", "address", "weight"], rows)


@app.command()
def undeploy(product: ProductName, as_json: AsJson = False) -> None:
    """Take a product off the road: drain and stop its router and every replica.

    Example: roadworthy undeploy freeway
    """
    from flows.deploy import undeploy as end

    record = end(open_workshop(), product)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{product}: version {record['version']} is off the road")


@app.command("roll-out")
def roll_out(
    product: ProductName,
    version: Annotated[int | None, typer.Option(help="A registered version; default: the live one.")] = None,
    shadow: Annotated[str, typer.Option(help="Ask it the clients' questions for so long first, e.g. 5m.")] = "0s",
    canary: Annotated[str, typer.Option(help="Shares of the requests in percent, one after the other.")] = "10,50,100",
    dwell: Annotated[str, typer.Option(help="How long each share is watched.")] = "30s",
    max_disagreement: Disagreement = 0.25,
    max_error_share: ErrorShare = 0.01,
    max_latency_ratio: LatencyRatio = 2.0,
    min_requests: Annotated[
        int, typer.Option(min=1, help="Of the candidate, in each stage; golden requests of ours fill it up.")
    ] = 20,
    replay: Annotated[str, typer.Option(help="Captured requests of so long are replayed first, e.g. 10m.")] = "",
    keep_previous: Annotated[bool, typer.Option(help="Keep what it replaces warm for a rollback.")] = True,
    as_json: AsJson = False,
) -> None:
    """Put a version in the place of the deployed one, in steps; back at once on errors, latency or disagreement.

    Example: roadworthy roll-out freeway --shadow 5m --canary 10,50,100
    """
    from flows.replay import gate
    from flows.roll_out import Plan
    from flows.roll_out import roll_out as begin

    shop = open_workshop()
    plan = Plan(
        shadow_s=seconds("--shadow", shadow), canary=shares(canary), dwell_s=seconds("--dwell", dwell),
        max_error_share=max_error_share, max_latency_ratio=max_latency_ratio, max_disagreement=max_disagreement,
        min_requests=min_requests, keep_previous=keep_previous,
        gate=gate(shop, product, seconds("--replay", replay)) if replay else None,
    )  # fmt: skip
    record = begin(shop, product, version, plan)
    if as_json:
        console.emit(record)
    else:
        _show(record)
    if record["verdict"] == "rolled back":
        raise typer.Exit(REFUSED)


@app.command()
def replay(
    product: ProductName,
    version: Annotated[int | None, typer.Option(help="A registered version; default: the live one.")] = None,
    last: Annotated[str, typer.Option(help="What was captured in so long, e.g. 10m.")] = "1h",
    file: Annotated[
        Path | None, typer.Option("--input", help="JSON Lines of time, body, answer; not captures.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="2: twice as fast as it came.")] = 1.0,
    max_disagreement: Disagreement = 0.25,
    max_error_share: ErrorShare = 0.01,
    max_p99_ms: Annotated[float, typer.Option(help="From when a request was due to its answer.")] = 250.0,
    as_json: AsJson = False,
) -> None:
    """Ask a version what clients asked lately, at the original timing, and hold its answers against those given.

    Example: roadworthy replay freeway --version 2 --last 10m --speed 2
    """
    from flows.replay import Limits
    from flows.replay import replay as ask

    limits = Limits(max_error_share, max_p99_ms, max_disagreement)
    record = ask(open_workshop(), product, version, file, seconds("--last", last), speed, limits)
    if as_json:
        console.emit(record)
    else:
        columns = {"asked": "requests", "failed": "errors", "p50 ms": "p50_ms", "p99 ms": "p99_ms", "pairs": "compared"}
        columns |= {"apart": "disagreement", "worst": "worst"}
        row = [record[name] for name in columns.values()]
        console.table(f"{product} version {record['version']}", list(columns), [row])
        console.say(f"[bold]{record['verdict']}[/] {'; '.join(record['reasons'])}")
    if record["verdict"] != "passed":
        raise typer.Exit(REFUSED)


def _show(record: dict[str, Any]) -> None:
    columns = {"stage": "stage", "s": "seconds", "asked": "requests", "failed": "errors", "by us": "own_requests"}
    columns |= {"p50 ms": "p50_ms", "p99 ms": "p99_ms", "pairs": "compared", "apart": "disagreement"}
    rows = [[stage.get(name) for name in columns.values()] for stage in record["stages"]]
    if rows:
        console.table(f"{record['product']}: the candidate", list(columns), rows)
    if record["warning"]:
        console.say(f"[yellow]few clients[/] {record['warning']}")
    console.say(f"{record['product']}: [bold]{record['verdict']}[/], version {record['version']} {record['reason']}")


def seconds(option: str, text: str) -> float:
    """A duration such as 30s, 5m, 1h or 0.5; raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise UsageError(f"{option} {text}: expected a duration such as 30s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def shares(text: str) -> tuple[float, ...]:
    """Percentages that grow and end at 100; raises UsageError."""
    parts = text.split(",")
    values = tuple(float(part) for part in parts if re.fullmatch(r"\s*\d+(\.\d+)?\s*", part))
    grows = all(one < next_one for one, next_one in pairwise(values))
    if len(values) != len(parts) or not grows or values[0] <= 0 or values[-1] != 100:
        raise UsageError(f"--canary {text}: expected growing shares of the requests up to 100, e.g. 10,50,100")
    return values
