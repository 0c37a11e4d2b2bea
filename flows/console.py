"""Shows tables and progress on stderr, and one JSON object on stdout when it is asked for."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

NAME_WIDTH = 24

err = Console(stderr=True)
out = Console()


def emit(record: Any) -> None:
    """One JSON value on stdout."""
    value = record.model_dump(mode="json") if isinstance(record, BaseModel) else record
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, to: Console = out) -> None:
    """A table; numbers are right-aligned."""
    view = Table(header_style="bold")
    for position, name in enumerate(columns):
        is_number = bool(rows) and isinstance(rows[0][position], int | float)
        # In a narrow terminal heads are wrapped; numbers, and the names of rows, are not taken away.
        widest = max((len(_text(row[position])) for row in rows), default=0)
        least = widest if is_number else min(NAME_WIDTH, widest) if position == 0 else None
        justify: Literal["left", "right"] = "right" if is_number else "left"
        view.add_column(name, justify=justify, overflow="fold", min_width=least)
    for row in rows:
        view.add_row(*(_text(cell) for cell in row))
    to.print(f"\n[bold]{title}[/]", highlight=False)
    to.print(view)


def say(message: str) -> None:
    """One line for people."""
    err.print(message, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr; plain and silent where that is no terminal."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        yield bar


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:,.3f}" if abs(cell) < 1000 else f"{cell:,.0f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return str(cell)
