"""The `roadworthy` command: thin, every flow is a command.

Exit status: 0 done, 1 refused input or a failure with its reason, 2 wrong usage, 3 a model that did not pass its gates.
"""

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows import console
from flows.cli_access import audit_app, key_app
from flows.cli_approve import app as approve_app
from flows.cli_backup import app as backup_app
from flows.cli_backup import backups_app
from flows.cli_compress import app as compress_app
from flows.cli_compress import run_until
from flows.cli_data import app as data_app
from flows.cli_deploy import app as deploy_app
from flows.cli_image import app as image_app
from flows.cli_live import app as live_app
from flows.cli_monitor import app as monitor_app
from flows.cli_monitor import labels_app
from flows.cli_reproduce import app as reproduce_app
from flows.cli_reproduce import capture_app
from flows.cli_route import app as route_app
from flows.cli_schedules import app as keeping_app
from flows.cli_schedules import schedule_app
from flows.cli_stack import app as stack_app
from flows.cli_trust import app as trust_app
from flows.cli_trust import watermark_app
from flows.options import NO_SETTINGS, AsJson, Product, Recipe, Settings, known_errors, parse_settings
from infra import settings as environment

REFUSED = 3

app = typer.Typer(
    help="From raw traffic data to a served model, and no model on the road before it has been inspected.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
groups = {
    "data": data_app,
    "key": key_app,
    "audit": audit_app,
    "capture": capture_app,
    "watermark": watermark_app,
    "backups": backups_app,
    "labels": labels_app,
    "schedule": schedule_app,
}
for name, group in groups.items():
    app.add_typer(group, name=name)
parts = (
    approve_app,
    backup_app,
    compress_app,
    live_app,
    image_app,
    deploy_app,
    keeping_app,
    monitor_app,
    trust_app,
    reproduce_app,
    route_app,
    stack_app,
)
for part in parts:
    app.registered_commands.extend(part.registered_commands)

Data = Annotated[str | None, typer.Option("--data", help="Data set; default: oregon_counts, or digits to classify.")]


def _lifecycle(recipe: str, data: str | None, settings: list[str], product: str, until: str, as_json: bool) -> None:
    from flows.run import run_lifecycle

    outcome = run_lifecycle(recipe, data, parse_settings(settings), product, until=until)
    if as_json:
        console.emit(outcome)
    else:
        from flows.show import show_outcome

        show_outcome(outcome)
    if outcome.verdict in ("refused", "awaiting approval"):
        raise typer.Exit(REFUSED)


@app.command()
def run(
    recipe: Recipe,
    data: Data = None,
    settings: Settings = NO_SETTINGS,
    product: Product = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole typed recipe and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """The whole lifecycle: prepare, train, compress, evaluate, promote, package.

    Example: roadworthy run forecast/stid --data freeway --set train.num_epochs=5
    """
    if dry_run:
        from flows.prepare import build_recipe
        from flows.workshop import open_workshop

        full = build_recipe(open_workshop(), recipe, data, parse_settings(settings), product)
        console.emit({"recipe": full.name, **full.model_dump(mode="json")})
        return
    _lifecycle(recipe, data, settings, product, "package", as_json)


@app.command()
def train(
    recipe: Recipe,
    data: Data = None,
    settings: Settings = NO_SETTINGS,
    product: Product = "",
    as_json: AsJson = False,
) -> None:
    """Prepare the data and fit the recipe's model; resumes from its last checkpoint.

    Example: roadworthy train forecast/lstm --data oregon_counts --set train.num_epochs=3
    """
    run_until("train", recipe, data, settings, product, as_json)


@app.command()
def evaluate(
    recipe: Recipe,
    data: Data = None,
    settings: Settings = NO_SETTINGS,
    product: Product = "",
    as_json: AsJson = False,
) -> None:
    """Judge every exported parcel through the predictor that serves; nothing is registered or promoted.

    Example: roadworthy evaluate classify/cnn --data digits --json
    """
    _lifecycle(recipe, data, settings, product, "evaluate", as_json)


@app.command()
def demo(as_json: AsJson = False) -> None:
    """The main job on two products, freeway and oregon_counts, up to an answered request from the held-back end.

    Example: roadworthy demo
    """
    from flows.demo import run_demo

    record = run_demo()
    if as_json:
        console.emit(record)


@app.command()
def catalog(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/catalog.md.")] = False,
) -> None:
    """Everything that exists: tasks with their families, baselines and data sets.

    Example: roadworthy catalog --json
    """
    if markdown:
        from flows.catalog_page import catalog_page
        from models.catalog import datasets

        sys.stdout.write(catalog_page(datasets().values()))
        return
    from flows.show import catalog_record, show_catalog
    from flows.workshop import open_workshop

    record = catalog_record(open_workshop())
    if as_json:
        console.emit(record)
    else:
        show_catalog(record)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: known errors become one clear message and exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        environment.apply(environment.settings())  # before a command imports a library that would look around
        app(args=words, standalone_mode=True)
    except known_errors() as error:
        record: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if (findings := getattr(error, "findings", None)) is not None:
            record["findings"] = [asdict(finding) for finding in findings]
        if "--json" in words:
            sys.stdout.write(json.dumps(record, indent=2) + "\n")
        console.err.print(f"[bold red]refused[/] {type(error).__name__}", highlight=False)
        console.err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
