"""Holds the command about what waits for people: approve."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import console
from flows.options import AsJson, UsageError
from flows.workshop import open_workshop

app = typer.Typer()
REFUSED = 3

KeyPath = Annotated[Path | None, typer.Option("--key-file", help="File with your own key, of role promoter or above.")]


@app.command()
def approve(
    product: Annotated[str, typer.Argument(help="A product, e.g. freeway.")] = "",
    version: Annotated[int | None, typer.Option("--version", help="Default: the newest that waits.")] = None,
    key_file: KeyPath = None,
    note: Annotated[str, typer.Option("--note", help="What you looked at; goes into the ledger.")] = "",
    is_list: Annotated[bool, typer.Option("--list", help="What waits, and who approved; approves nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Approve a version that passed its gates; with the last approval that its recipe asks for it goes on the road.

    Example: roadworthy approve freeway --version 7 --key-file ~/my.key --note "seen the report"
    """
    from flows.approve import approve as enter
    from flows.approve import read_key, waiting

    if is_list:
        _show(waiting(open_workshop()), as_json=as_json)
        return
    if not product or key_file is None:
        raise UsageError("approve: expected PRODUCT and --key-file FILE, or --list")
    record = enter(open_workshop(), product, version, read_key(key_file), note)
    if as_json:
        console.emit(record)
    else:
        approved = f"{len(record['approved_by'])} of {record['num_approvals']}: {', '.join(record['approved_by'])}"
        console.say(f"{product} version {record['version']}: [bold]{record['verdict']}[/] (approved by {approved})")
        for reason in record["reasons"]:
            console.say(f"  {reason}")
    if record["verdict"] == "refused":
        raise typer.Exit(REFUSED)


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        console.emit(rows)
        return
    cells = [
        [
            row["product"], row["version"], f"{len(row['approved_by'])} of {row['num_approvals']}",
            ", ".join(row["approved_by"]), row["is_current"], row["since"][:16],
        ]
        for row in rows
    ]  # fmt: skip
    columns = ["product", "version", "approvals", "by", "judged against what is live", "since (UTC)"]
    console.table("Waiting for approval", columns, cells)
