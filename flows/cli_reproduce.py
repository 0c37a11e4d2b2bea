"""Holds the commands about answers that were given: reproduce, and the group capture."""

from typing import Annotated, Any

import typer

from flows import console
from flows.options import AsJson, ProductName
from flows.workshop import open_workshop

app = typer.Typer()
capture_app = typer.Typer(help="Captured predictions: from the services' spools to the object store.")
DIFFERENT = 3


@app.command()
def reproduce(
    prediction_id: Annotated[str, typer.Argument(metavar="ID", help="The X-Prediction-Id of an answer.")],
    at_commit: Annotated[
        bool, typer.Option("--at-commit", help="Run under the commit that made the model, in a folder of its own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a captured prediction again: equal, within tolerance, or what differs.

    Exit status: 0 equal or within tolerance, 1 not found or not to be run again, 3 it differs.

    Example: roadworthy reproduce 0197a2c4-5d10-7c3e-9f52-0a1b2c3d4e5f
    """
    from flows.reproduce import DIFFERS
    from flows.reproduce import reproduce as run_again

    record = run_again(open_workshop(), prediction_id, at_commit=at_commit)
    if as_json:
        console.emit(record)
    else:
        _show(record)
    if record["verdict"] == DIFFERS:
        raise typer.Exit(DIFFERENT)


@capture_app.command("ship")
def ship(
    product: Annotated[str, typer.Argument(help="A product; default: all.")] = "",
    now: Annotated[bool, typer.Option("--now", help="Wait until what is being written is closed, 10 s or so.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=1, help="Seconds between passes of --watch.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Put what services have captured into the object store, as Parquet by product and hour.

    Example: roadworthy capture ship freeway --now
    """
    from flows import capture

    shop = open_workshop()
    if watch:
        capture.watch(shop, product, every_s, console.emit if as_json else _say_shipped)
    shipped = capture.ship(shop, product, now=now)
    if as_json:
        console.emit(shipped)
        return
    for one in shipped:
        _say_shipped(one)
    if not shipped:
        console.say("nothing is captured here: no service has a spool in this home")


@capture_app.command("show")
def show(
    product: ProductName,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, the newest first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The newest captured predictions of a product, shipped or not.

    Example: roadworthy capture show freeway --last 3
    """
    from flows.capture import newest

    found = newest(open_workshop(), product, last)
    if as_json:
        console.emit(found)
        return
    rows = [[one["prediction_id"], one["time"][:19], one["version"], one["protocol"], one["key_id"]] for one in found]
    console.table(f"Captured: {product}", ["prediction", "answered (UTC)", "version", "protocol", "key"], rows)


def _say_shipped(one: dict[str, Any]) -> None:
    if "error" in one:
        console.say(f"not shipped, tried again: {one['error']}")
        return
    aside = f", {one['damaged']} damaged kept aside" if one["damaged"] else ""
    console.say(f"{one['product']}: {one['predictions']} predictions of {one['segments']} segments shipped{aside}")


def _show(record: dict[str, Any]) -> None:
    model, data, code = record["model"], record["data"], record["code"]
    console.out.print(f"[bold]{record['verdict']}[/] {record['where']}".rstrip(), highlight=False)
    rows: list[list[object]] = [
        ["answered", record["answered_at"]],
        ["model", f"{model['product']}/{model['version']}, parcel {model['digest'][:12]}, run {model['run_id'][:12]}"],
        ["data", f"{data['digest'][:12]}, {'in the store' if data['present'] else 'not in the store'}"],
        ["code", f"{code['commit'][:12]} then, {code['ran_at'][:12]} now"],
        ["largest difference", _difference(record)],
    ]
    rows += [[f"differs: {name}", " then, ".join(pair) + " now"] for name, pair in model["disagreements"].items()]
    rows += [
        [f"differs: {name}", f"{then} then, {now} now"]
        for name, (then, now) in record["environment"]["differences"].items()
    ]
    console.table(record["prediction_id"], ["what", "found"], rows)


def _difference(record: dict[str, Any]) -> str:
    if record["max_difference"] is None:
        return "not a number"
    found = f"{record['max_difference']:g}, {record['share_of_scale']:.2%} of the scale"
    return f"{found}; allowed {record['tolerance']:.2%}"
