"""Commands about data: list, add, fetch, check, prepare, simulate, remove."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import NO_SETTINGS, AsJson, UsageError
from flows.workshop import open_workshop

app = typer.Typer(help="Data sets: list, add, fetch, check, prepare, simulate, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A data set's name.")]
NEXT = {"forecast": "forecast/stid", "classify": "classify/cnn", "regress": "regress/mlp"}


@app.command("list")
def list_data(as_json: AsJson = False) -> None:
    """Every data set, shipped and added.

    Example: roadworthy data list
    """
    from flows.prepare import all_datasets

    cards = all_datasets(open_workshop())
    if as_json:
        console.emit([card.model_dump(mode="json") for card in cards.values()])
        return
    rows = [[card.name, card.task, card.num_nodes, card.contract.cadence_min, card.title] for card in cards.values()]
    console.table("Data sets", ["name", "task", "nodes", "cadence (min)", "what"], rows)


@app.command()
def add(
    name: Name,
    wide: Annotated[Path | None, typer.Option(help="Rows are times, columns are sensors (CSV or Parquet).")] = None,
    long: Annotated[Path | None, typer.Option(help="One row per time and sensor (CSV or Parquet).")] = None,
    table: Annotated[Path | None, typer.Option(help="Rows are samples, one column is --target (CSV, Parquet).")] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder with one folder of PNG or JPEG files per class.")
    ] = None,
    cadence: Annotated[str, typer.Option(help="5min, 15min, 1h; --long infers it.")] = "",
    unit: Annotated[str, typer.Option(help="Unit of the values, e.g. km/h; comma-separated for several.")] = "",
    start: Annotated[str, typer.Option(help="Time of the first row of a wide file without a time column.")] = "",
    missing: Annotated[float | None, typer.Option(help="The value that stands for missing, e.g. 0.")] = None,
    adjacency: Annotated[Path | None, typer.Option(help="N x N weights, or an edge list from,to,weight (CSV).")] = None,
    time: Annotated[
        str,
        typer.Option(help="--long: the time column. --table: the column to split in the order of, if there is one."),
    ] = "time",
    node: Annotated[str, typer.Option(help="--long: the sensor column.")] = "node",
    value: Annotated[
        str, typer.Option(help="--long: the value column(s), comma-separated; the first is forecast.")
    ] = "value",
    personal: Annotated[list[str], typer.Option(help="--long: COLUMN or COLUMN=pseudonym|coarsen|drop.")] = NO_SETTINGS,
    target: Annotated[str, typer.Option(help="--table: the column to predict.")] = "",
    features: Annotated[str, typer.Option(help="--table: columns to predict from; empty: all others.")] = "",
    group: Annotated[str, typer.Option(help="--table: rows with the same value never lie in two splits.")] = "",
    size: Annotated[str, typer.Option(help="--images: bring all to WIDTHxHEIGHT, e.g. 32x32.")] = "",
    as_json: AsJson = False,
) -> None:
    """Bring your own data; it is checked before it is taken, and every recipe of its task runs on it.

    Example: roadworthy data add city --wide speed.csv --cadence 5min --unit km/h --missing 0
    """
    from flows.bring import Kind, Source, add_dataset

    given: dict[Kind, Path | None] = {"wide": wide, "long": long, "table": table, "images": images}
    chosen = [(kind, path) for kind, path in given.items() if path is not None]
    if len(chosen) != 1:
        raise UsageError(f"give exactly one of --wide, --long, --table, --images; got {len(chosen)}")
    kind, path = chosen[0]
    source = Source(
        kind=kind, path=path, cadence=cadence, unit=unit, start=start, missing=missing, adjacency=adjacency,
        time=time, node=node, values=_words(value), personal=tuple(personal), target=target,
        features=_words(features), group=group, size=size,
    )  # fmt: skip
    record = add_dataset(open_workshop(), name, source)
    if as_json:
        console.emit(record)
        return
    console.say(f"added [bold]{name}[/]: {record['summary']}")
    for finding in record["warnings"]:
        place = f"{finding['column']}, row {finding['row']}" if finding["row"] != "all" else finding["column"]
        console.say(f"  note: {place}: expected {finding['expected']}, got {finding['got']}")
    console.say(f"next: roadworthy run {NEXT[record['card']['task']]} --data {name}")


def _words(text: str) -> tuple[str, ...]:
    """The parts between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def fetch(name: Name, as_json: AsJson = False) -> None:
    """Have a shipped data set's files on this machine, so that a run needs no network.

    Example: roadworthy data fetch mnist
    """
    from flows.fetch import fetch_dataset

    record = fetch_dataset(open_workshop(), name)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{name}: {record['bytes']:,} bytes in {record['folder']}")


@app.command()
def check(name: Name, as_json: AsJson = False) -> None:
    """Hold a data set against its contract and show every finding.

    Example: roadworthy data check oregon_counts
    """
    from flows.prepare import check_dataset

    record = check_dataset(open_workshop(), name)
    if as_json:
        console.emit(record)
        return
    columns = ["severity", "row", "column", "expected", "got", "count"]
    rows = [[item[column] for column in columns] for item in record["findings"]]
    console.table(f"{name}: {record['summary']}", columns, rows)


@app.command()
def prepare(name: Name, as_json: AsJson = False) -> None:
    """Check, mask, split, scale, and keep the result as a content-hashed snapshot in the object store.

    Example: roadworthy data prepare oregon_counts
    """
    from flows.prepare import default_recipe, prepare_data

    shop = open_workshop()
    prepared = prepare_data(shop, default_recipe(shop, name))
    ref, done = prepared.ref, prepared.done
    if as_json:
        console.emit({**ref.model_dump(), "folder": str(done.folder), "was_cached": done.was_cached})
    else:
        console.say(
            f"{name}: snapshot {ref.digest[:16]} ({'was there' if done.was_cached else 'made'})\n  {done.folder}"
        )


@app.command()
def simulate(
    name: Name,
    days: Annotated[int, typer.Option(min=1)] = 28,
    stations: Annotated[int, typer.Option(min=2)] = 30,
    seed: Annotated[int, typer.Option(min=0, max=2_000_000)] = 7,
    processes: Annotated[int, typer.Option(min=1)] = 2,
    as_json: AsJson = False,
) -> None:
    """Simulate a freeway of any size with SUMO (extra `sim`) and add it as a data set; resumes day by day.

    Example: roadworthy data simulate freeway_wide --days 56 --stations 60 --seed 11
    """
    from flows.simulate import simulate_freeway

    record = simulate_freeway(open_workshop(), name, days, stations, seed, processes)
    if as_json:
        console.emit(record)
    else:
        console.say(f"added [bold]{name}[/]: {record['summary']}")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Forget an added data set; snapshots made from it stay, since models point at them.

    Example: roadworthy data remove city
    """
    from flows.bring import remove_dataset

    remove_dataset(open_workshop(), name)
    if as_json:
        console.emit({"name": name, "removed": True})
    else:
        console.say(f"removed {name}")
