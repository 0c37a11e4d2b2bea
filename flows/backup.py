"""The nightly backup: one flow around `flows.backup_take`; its record is a Prefect artifact."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact


@flow(name="backup")
def backup(to: str = "", encrypt: bool = False) -> dict[str, Any]:
    """Everything of this home at one moment, to the place of the settings or `to`; old backups are thinned out."""
    from flows.backup_take import take_backup
    from flows.workshop import open_workshop

    record = take_backup(open_workshop(), to, encrypt=encrypt)
    lines = [f"| {name} | {value} |" for name, value in record.items()]
    create_markdown_artifact("\n".join(["| | |", "| --- | --- |", *lines]), key="backup", description=record["id"])
    return record
