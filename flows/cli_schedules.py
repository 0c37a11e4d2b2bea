"""Commands about what runs when: schedule list, pause, resume, run; retention."""

from typing import Annotated

import typer

from flows import console
from flows.options import AsJson
from flows.workshop import open_workshop

schedule_app = typer.Typer(help="Scheduled runs: list, pause, resume, run.", no_args_is_help=True)
app = typer.Typer()

Name = Annotated[str, typer.Argument(help="flow/deployment, or its second half where only one has it.")]


@schedule_app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """Every deployment: when it runs next, how its last run ended, how many runs are late.

    Example: roadworthy schedule list
    """
    from flows import schedule_desk

    rows = schedule_desk.listed(open_workshop())
    if as_json:
        console.emit(rows)
        return
    columns = ["name", "when", "state", "next (UTC)", "last (UTC)", "last run", "late"]
    console.table("Schedules", columns, [list(row.values()) for row in rows])


@schedule_app.command("pause")
def pause(name: Name, as_json: AsJson = False) -> None:
    """Plan no more runs of it until it is resumed; a restart keeps it paused. Nothing is owed for this time.

    Example: roadworthy schedule pause nightly-freeway
    """
    from flows import schedule_desk

    _show(schedule_desk.pause(open_workshop(), name, is_paused=True), as_json)


@schedule_app.command("resume")
def resume(name: Name, as_json: AsJson = False) -> None:
    """Plan runs of it again.

    Example: roadworthy schedule resume nightly-freeway
    """
    from flows import schedule_desk

    _show(schedule_desk.pause(open_workshop(), name, is_paused=False), as_json)


@schedule_app.command("run")
def run_now(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Until it ended; exit status 1 unless it completed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have the worker run it now, beside its schedule.

    Example: roadworthy schedule run watch-runs/minutely --wait
    """
    from flows import schedule_desk

    record = schedule_desk.run_now(open_workshop(), name, wait=wait)
    _show(record, as_json)
    if wait and record["state"] != "COMPLETED":
        raise typer.Exit(1)


@app.command()
def retention(
    days: Annotated[float, typer.Option(help="Lifecycles older than this go, where nothing needs them.", min=0)] = 90,
    monitor_days: Annotated[float, typer.Option(help="The same for runs of monitoring.", min=0)] = 30,
    undelete_days: Annotated[float, typer.Option(help="How long they can be brought back in MLflow.", min=0)] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old runs that no ledger entry and no registered version names; the schedule does it every day.

    Example: roadworthy retention --dry-run --json
    """
    from flows import retention as keeping

    record = keeping.tidy(open_workshop(), days, monitor_days, undelete_days, dry_run=dry_run)
    if as_json:
        console.emit(record)
        return
    rows = [[part, what, count] for part in ("mlflow", "prefect", "bytes") for what, count in record[part].items()]
    console.table("Would go" if dry_run else "Retention", ["where", "what", "how much"], rows)


def _show(record: dict[str, str], as_json: bool) -> None:
    if as_json:
        console.emit(record)
    else:
        console.say(" ".join(f"{value}" for value in record.values() if value))
