"""Holds `roadworthy compress`: every candidate, or a search for the best in a budget."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import console
from flows.options import NO_SETTINGS, AsJson, Product, Settings, UsageError, parse_settings

if TYPE_CHECKING:
    from flows.search_outcome import SearchOutcome

REFUSED = 3
SEARCH_ONLY = ("max_loss", "trials", "timeout", "jobs", "ray", "seed", "promote")

app = typer.Typer()
Name = Annotated[str, typer.Argument(help="A live product, e.g. freeway, or task/family, e.g. forecast/stid.")]
Data = Annotated[str | None, typer.Option("--data", help="Data set of a recipe; default: the task's own.")]
BUDGET = "latency_ms (median of one request), latency_p99_ms, bytes, rows_per_second; 0.1x is a tenth of the teacher's"


@app.command()
def compress(
    context: typer.Context,
    name: Name,
    data: Data = None,
    settings: Settings = NO_SETTINGS,
    product: Product = "",
    budget: Annotated[str, typer.Option(help=f"Searches. latency_ms=1.0,bytes=100kB; bounds: {BUDGET}.")] = "",
    max_loss: Annotated[str, typer.Option(help="Error allowed above the teacher's; of an error rate: points.")] = "2%",
    trials: Annotated[int, typer.Option(min=1, help="Points in all, those of an interrupted run counted.")] = 24,
    timeout: Annotated[str, typer.Option(help="No trial goes on after this: 90s, 10min, 1h.")] = "30min",
    jobs: Annotated[int, typer.Option(min=0, help="Workers of one thread each; 0: one for each core.")] = 0,
    ray: Annotated[str, typer.Option(help="Address of a Ray cluster that works instead, or `local`.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the sampler; networks keep their recipe's.")] = 0,
    promote: Annotated[bool, typer.Option("--promote/--no-promote", help="Register and promote what passes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Every candidate of a recipe; with --budget the best of distil × prune × quantise inside it, through the gates.

    Exit status 3 where nothing fits, or what fits was refused. The same command again goes on where it was.

    Example: roadworthy compress freeway --budget latency_ms=1.0,bytes=100_000 --max-loss 2%
    """
    if not budget:
        _refuse_search_options(context)
        run_until("compress", name, data, settings, product, as_json)
        return
    limits = {
        "num_trials": trials, "timeout": timeout, "num_jobs": jobs or os.cpu_count() or 1, "seed": seed, "ray": ray
    }  # fmt: skip
    outcome = _search(name, data, settings, product, (budget, max_loss), limits, promote)
    if as_json:
        console.emit(outcome)
    else:
        from flows.search_outcome import show_search

        show_search(outcome)
    if outcome.verdict in ("refused", "awaiting approval", "nothing_fits"):
        raise typer.Exit(REFUSED)


def _search(
    name: str, data: str | None, settings: list[str], product: str, bounds: tuple[str, str], limits: dict[str, Any],
    is_promoting: bool,
) -> "SearchOutcome":  # fmt: skip
    """The words are read, and what they name is looked up, before anything is started."""
    from flows.run import begin_flow
    from flows.search_options import parse_budget, parse_seconds
    from flows.search_origin import wished_recipe
    from flows.workshop import open_workshop
    from models import catalog
    from models.compression.space import space_of

    wish = asdict(parse_budget(*bounds))
    limits["timeout_s"] = parse_seconds(limits.pop("timeout"), "--timeout")
    chosen = parse_settings(settings)
    recipe = wished_recipe(open_workshop(), name, data, chosen, product)
    space_of(catalog.family(recipe.task, recipe.family), recipe)
    begin_flow(f"{name}: search under {bounds[0]}, loss at most {bounds[1]}")
    from flows.search import compression_search
    from flows.search_outcome import SearchOutcome

    return SearchOutcome.model_validate(compression_search(name, data, chosen, product, wish, limits, is_promoting))


def _refuse_search_options(context: typer.Context) -> None:
    """Without a budget nothing is searched, and no wish is skipped silently."""
    said = [name for name in SEARCH_ONLY if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if said:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise UsageError(f"{options}: for a search, which needs --budget, e.g. --budget latency_ms=1.0,bytes=100kB")


def run_until(step: str, recipe: str, data: str | None, settings: list[str], product: str, as_json: bool) -> None:
    """A lifecycle up to `train` or `compress`, and its steps."""
    from flows.run import run_steps

    done = run_steps(recipe, data, parse_settings(settings), product, until=step)
    if as_json:
        console.emit(done)
        return
    rows = [
        [name, item["key"][:12], item["seconds"], item["was_cached"], item["folder"]] for name, item in done.items()
    ]
    console.table(f"{recipe}: {step}", ["step", "key", "seconds", "cached", "folder"], rows)
