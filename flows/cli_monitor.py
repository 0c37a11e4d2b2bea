"""Holds the commands about what became of a model: monitor, retrain, and the group labels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import console
from flows.live import live_model
from flows.options import NO_SETTINGS, AsJson, ProductName, Settings, parse_settings
from flows.workshop import open_workshop

app = typer.Typer()
labels_app = typer.Typer(help="What really came about, told later: delayed labels of captured predictions.")
REFUSED = 3


@app.command()
def monitor(
    product: Annotated[str, typer.Argument(help="A product; default: every live one.")] = "",
    since: Annotated[str, typer.Option(help="How far back captures are judged, e.g. 24h or 7d.")] = "24h",
    alarms_per_year: Annotated[float, typer.Option(min=0.01, help="False alarms that are put up with.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Hold what was captured against what the live models were trained on; a breach asks for a retraining.

    Example: roadworthy monitor freeway --since 24h
    """
    from flows.run import begin_flow

    if product:
        live_model(open_workshop(), product)  # refused here, without Prefect's words around it
    begin_flow(f"monitoring {product or 'every live product'}")
    from flows.monitor import monitor as look

    records = look(product=product, since=since, alarms_per_year=alarms_per_year)
    if as_json:
        console.emit(records)
        return
    for record in records:
        _show(record)
    if not records:
        console.say("nothing is live")


@app.command()
def retrain(
    product: ProductName,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "by hand",
    recipe: Annotated[str, typer.Option(help="task/family; default: the live version's.")] = "",
    data: Annotated[str, typer.Option(help="Data set; default: the live version's.")] = "",
    settings: Settings = NO_SETTINGS,
    shadow_s: Annotated[float, typer.Option("--shadow", min=0, help="Seconds beside the deployed version.")] = 30.0,
    dwell_s: Annotated[float, typer.Option("--dwell", min=0, help="Seconds of each canary stage.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Train a live product again on the data of today, through its gates and, where it is deployed, onto the road.

    Exit status: 0 promoted or unchanged; 3 refused by its gates, awaiting approval, or turned back on the road.

    Example: roadworthy retrain freeway
    """
    from flows.run import begin_flow

    if not (recipe and data):
        live_model(open_workshop(), product)
    begin_flow(f"retraining {product}")
    from flows.retrain import retrain as begin

    record = begin(
        product=product, reason=reason, recipe=recipe, data=data, settings=parse_settings(settings),
        shadow_s=shadow_s, dwell_s=dwell_s,
    )  # fmt: skip
    if as_json:
        console.emit(record)
    else:
        version = f", version {record['version']}" if record.get("version") else ""
        console.say(f"{product}: [bold]{record['verdict']}[/]{version}, {record['seconds']:g} s")
        for one in record.get("reasons", ()):
            console.say(f"  {one}")
    if record["verdict"] not in ("promoted", "unchanged"):
        raise typer.Exit(REFUSED)


@labels_app.command("add")
def add(
    product: ProductName,
    file: Annotated[Path, typer.Option("--file", help="CSV: prediction_id, truth; perhaps row, place, step.")],
    as_json: AsJson = False,
) -> None:
    """Tell what really came about, by prediction; adding a file twice changes nothing.

    Example: roadworthy labels add digits --file labels.csv
    """
    from flows.labels import add_labels

    record = add_labels(open_workshop(), product, file)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{product}: {record['labels']} labels of {record['predictions']} predictions are kept")


def _show(record: dict[str, Any]) -> None:
    report = record["report"]
    console.out.print(f"{record['product']} version {record['version']}: [bold]{record['verdict']}[/]", highlight=False)
    rows = [
        [one["name"], one["score"], one["threshold"], one["num_features"], one["num_breached"], _largest(one)]
        for one in report["checks"]
    ]
    if rows:
        title = f"{record['requests']} requests, {report['hours']} hours; reference {report['reference_hours']} hours"
        console.table(title, ["check", "score", "threshold", "features", "breached", "largest"], rows)
    else:
        console.say(f"  {record['requests']} requests since {record['since'][:16]}")
    for reason in record["reasons"]:
        console.out.print(f"  {reason}", highlight=False)


def _largest(check: dict[str, Any]) -> str:
    if not check["shifts"]:
        return ""
    one = check["shifts"][0]
    return f"{' '.join(part for part in (one['what'], one['channel'], one['place']) if part)}: {one['effect']:.2f}"
