"""Commands about data: list, add, check, prepare, simulate, remove."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import NO_SETTINGS, AsJson, UsageError
from flows.workshop import open_workshop

app = typer.Typer(help="Data sets: list, add, check, prepare, simulate, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A data set's name.")]


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
    images: Annotated[
        Path | None, typer.Option(help="A folder with one folder of PNG or JPEG files per class.")
    ] = None,
    cadence: Annotated[str, typer.Option(help="5min, 15min, 1h; --long infers it.")] = "",
    unit: Annotated[str, typer.Option(help="Unit of the values, e.g. km/h; comma-separated for several.")] = "",
    start: Annotated[str, typer.Option(help="Time of the first row of a wide file without a time column.")] = "",
    missing: Annotated[float | None, typer.Option(help="The value that stands for missing, e.g. 0.")] = None,
    adjacency: Annotated[Path | None, typer.Option(help="N x N weights, or an edge list from,to,weight (CSV).")] = None,
    time: Annotated[str, typer.Option(help="--long: the time column.")] = "time",
    node: Annotated[str, typer.Option(help="--long: the sensor column.")] = "node",
    value: Annotated[
        str, typer.Option(help="--long: the value column(s), comma-separated; the first is forecast.")
    ] = "value",
    personal: Annotated[list[str], typer.Option(help="--long: COLUMN or COLUMN=pseudonym|coarsen|drop.")] = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Bring your own data; it is checked before it is taken, and every recipe of its task runs on it.

    Example: roadworthy data add city --wide speed.csv --cadence 5min --unit km/h --missing 0
    """
    from flows.bring import Kind, Source, add_dataset

    given = [path for path in (wide, long, images) if path is not None]
    if len(given) != 1:
        raise UsageError(f"give exactly one of --wide, --long, --images; got {len(given)}")
    kind: Kind = "wide" if wide else "long" if long else "images"
    source = Source(
        kind=kind, path=given[0], cadence=cadence, unit=unit, start=start, missing=missing, adjacency=adjacency,
        time=time, node=node, values=tuple(part.strip() for part in value.split(",")), personal=tuple(personal),
    )  # fmt: skip
    record = add_dataset(open_workshop(), name, source)
    if as_json:
        console.emit(record)
        return
    console.say(f"added [bold]{name}[/]: {record['summary']}")
    for finding in record["warnings"]:
        place = f"{finding['column']}, row {finding['row']}" if finding["row"] != "all" else finding["column"]
        console.say(f"  note: {place}: expected {finding['expected']}, got {finding['got']}")
    recipe = "classify/cnn" if kind == "images" else "forecast/stid"
    console.say(f"next: roadworthy run {recipe} --data {name}")


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
    seed: Annotated[int, typer.Option()] = 7,
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
