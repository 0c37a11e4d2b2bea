"""Delayed labels: a CSV file of truths by prediction id, checked, kept beside the captures.

Columns `prediction_id` and `truth`; where the answer has more than one value also `row` (of the request's batch, from
0), `place` (node, station, edge, or the number of the entry) and `step` (of the horizon, from 1).
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.live import live_products
from flows.options import UsageError
from flows.workshop import Workshop, now
from infra.captures import CaptureError, id_moment
from infra.labels import Label, add

REQUIRED, OPTIONAL = ("prediction_id", "truth"), ("row", "place", "step")
MAX_SHOWN = 5


def add_labels(shop: Workshop, product: str, file: Path) -> dict[str, Any]:
    """Keep what the file says really came about. Raises UsageError that names the lines, StorageError."""
    known = live_products(shop)
    if product not in known:
        raise UsageError(f"product '{product}': expected a live one, got another; live: {', '.join(known) or 'none'}")
    labels = list(read_labels(file))
    done = add(shop.store, product, labels, now())
    return {
        "product": product, "labels": done.num_labels, "predictions": len({one.prediction_id for one in labels}),
        "new_files": done.num_new_files, "keys": list(done.keys),
    }  # fmt: skip


def read_labels(file: Path) -> Iterator[Label]:
    """The rows of the file, all of them checked before the first is kept. Raises UsageError."""
    if not file.is_file():
        raise UsageError(f"--file {file}: expected a CSV file with {', '.join(REQUIRED)}, got none")
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = tuple(reader.fieldnames or ())
        missing = [name for name in REQUIRED if name not in columns]
        unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
        if missing or unknown:
            wanted = f"{', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL)}"
            raise UsageError(f"--file {file}: expected the columns {wanted}, got {', '.join(columns) or 'none'}")
        rows = list(reader)
    faults = [fault for line, row in enumerate(rows, 2) if (fault := _fault(row, line))]
    if faults:
        more = f" and {len(faults) - MAX_SHOWN} more" if len(faults) > MAX_SHOWN else ""
        raise UsageError(f"--file {file}: {'; '.join(faults[:MAX_SHOWN])}{more}; nothing was added")
    yield from (_label(row) for row in rows)


def _label(row: dict[str, str]) -> Label:
    numbers = {name: int(row.get(name) or 0) for name in ("row", "step")}
    place = (row.get("place") or "").strip()
    return Label(row["prediction_id"].strip().lower(), numbers["row"], place, numbers["step"], row["truth"].strip())


def _fault(row: dict[str, Any], line: int) -> str:
    """What is wrong with a line, or ""."""
    for name in ("row", "step"):
        if not str(row.get(name) or "0").isdigit():
            return f"line {line}, {name}: expected a whole number, got {row[name]!r}"
    if None in row or any(row[name] is None or not row[name].strip() for name in REQUIRED):
        return f"line {line}: expected {' and '.join(REQUIRED)}, got {list(row.values())}"
    try:
        id_moment(row["prediction_id"].strip())
    except CaptureError as error:
        return f"line {line}: {error}"
    return ""
