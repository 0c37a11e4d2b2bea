"""Holds the commands about backups and garbage: backup, restore, drill, backups, gc."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import console
from flows.options import AsJson
from flows.workshop import open_workshop
from infra import settings as environment

app = typer.Typer()
backups_app = typer.Typer(help="What backups there are.", no_args_is_help=True)

To = Annotated[str, typer.Option("--to", help="A folder or s3://bucket/prefix; default: ROADWORTHY_BACKUP_STORE.")]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="A key or a long passphrase; seals and opens.")]
Trusted = Annotated[Path | None, typer.Option("--trusted", help="Public keys to believe; others are refused.")]


@app.command()
def backup(
    to: To = "",
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Seal it; only then secrets are in it.")] = False,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Everything of this home at one moment: databases, objects, Bentos, ledgers, under one signed manifest.

    What an earlier backup holds is not stored again. Default place: the folder HOME.backups beside HOME.

    Example: roadworthy backup --to /mnt/backups/roadworthy --encrypt
    """
    from flows.backup_take import take_backup

    record = take_backup(open_workshop(), to, encrypt=encrypt, key_file=key_file)
    if as_json:
        console.emit(record)
        return
    console.say(
        f"backup {record['id']} in {record['place']}: {record['num_files']} files, {record['num_objects']} objects, "
        f"{record['num_bytes'] / 1e6:.1f} MB, of which {record['new_bytes'] / 1e6:.1f} MB are new; "
        f"{record['seconds']:.1f} s"
    )
    if record["lacks"]:
        console.say(f"not in it, and made anew by a restore (seal it with --encrypt): {', '.join(record['lacks'])}")


@app.command()
def restore(
    backup: Annotated[str, typer.Argument(help="A place of backups (its newest), PLACE/ID, or an id with --from.")],
    source: Annotated[str, typer.Option("--from", help="The place of the backup.")] = "",
    at: Annotated[str, typer.Option("--at", help="The id of the backup; default: the newest.")] = "",
    key_file: KeyFile = None,
    trusted: Trusted = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Beside a running home: ports of its own.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the empty ROADWORTHY_HOME what a backup holds: the same ids, the same answers to golden requests.

    Everything is checked before anything is put in place; a restore that was killed goes on with the same command.

    Example: roadworthy restore /mnt/backups/roadworthy
    """
    from flows.restore import Wish, restore

    wish = Wish(backup, source, at, key_file, trusted, free_ports)
    record = restore(environment.settings(), wish)
    if as_json:
        console.emit(record)
        return
    rows = [[f"{row['database']} {row['ids']}", row["then"], row["now"], row["ok"]] for row in record["ids"]]
    rows += [
        [f"answer of {row['product']} {row['version']}", "", row["verdict"], row["ok"]] for row in record["golden"]
    ]
    console.table(f"Restored {record['id']}", ["what", "then", "now", "same"], rows)
    if record["made_anew"]:
        console.say(f"made anew, as the backup lacks them: {', '.join(record['made_anew'])}")
    console.say(f"{record['home']}: {record['seconds']:.1f} s; next: roadworthy up")


@app.command()
def drill(to: To = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Restore the newest backup beside this home, compare ids and answers, and remove the copy.

    Example: roadworthy drill --json
    """
    from flows.restore_drill import run_drill

    record = run_drill(open_workshop(), to, key_file)
    if as_json:
        console.emit(record)
    else:
        console.say(f"backup {record['id']} restores to the same ids and answers; {record['seconds']:.1f} s")


@backups_app.command("list")
def list_backups(to: To = "", as_json: AsJson = False) -> None:
    """The backups of a place, oldest first.

    Example: roadworthy backups list --to /mnt/backups/roadworthy
    """
    from flows.backup_place import open_place
    from flows.backup_take import summary

    place = open_place(environment.settings(), to)
    records = [summary(place, one) for one in place.statements()]
    if as_json:
        console.emit(records)
        return
    keys = ("id", "profile", "encrypted", "num_files", "num_objects", "num_bytes")
    console.table(f"Backups in {place.store.uri}", list(keys), [[one[key] for key in keys] for one in records])


@backups_app.command("verify")
def verify_backup(
    backup: Annotated[
        str, typer.Argument(help="PLACE, PLACE/ID or ID; default: the newest of the default place.")
    ] = "",
    to: To = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Hold a backup against its signature and every hash; exit status 1 where something is damaged.

    Example: roadworthy backups verify /mnt/backups/roadworthy
    """
    from flows.backup_place import verify

    record = verify(environment.settings(), backup, to, key_file)
    if as_json:
        console.emit(record)
    else:
        console.say(f"backup {record['id']}: {record['pieces']} pieces as key {record['signed_by'][:12]} signed them")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what nobody owns.")] = False,
    restore: Annotated[str, typer.Option("--restore", help="Bring back what was set aside on YYYY-MM-DD.")] = "",
    days: Annotated[float, typer.Option("--older-than", help="Days; what is younger stays.", min=0)] = 14.0,
    as_json: AsJson = False,
) -> None:
    """Set aside what no version, deployment or recent step needs; it is removed for good 14 days later.

    Example: roadworthy gc --dry-run
    """
    from flows.collect import collect, undo

    shop = open_workshop()
    record: dict[str, Any] = undo(shop, restore) if restore else collect(shop, days=days, dry_run=dry_run)
    if as_json:
        console.emit(record)
    elif restore:
        console.say(f"brought back from {restore}: {record['objects']} objects, {record['files']} files")
    else:
        rows = [[row["kind"], row["owned"], row["unowned"]] for row in record["kinds"]]
        title = "Nobody owns" if dry_run else f"Set aside under {record['date']}"
        console.table(title, ["kind", "owned", "unowned"], rows)
