"""Takes what MLflow knows from SQLite into PostgreSQL, with every id as it was.

Experiments, runs, metrics, models and versions keep their ids because rows are copied, not made again. Artifacts that
lay in a folder of this machine are found through the server from then on, so their addresses are rewritten.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

BATCH = 1000
ADDRESSES = ("artifact_location", "artifact_uri", "source", "storage_location", "uri")  # columns that may hold one


def move_rows(database: Path, target: str, artifacts: Path) -> int:
    """Copy every row of MLflow's store at `database` (SQLite) into `target`, all or none; returns how many.

    What is in `target` is replaced: to be called before its server has ever started. `artifacts`: the folder whose
    addresses become `mlflow-artifacts:/…`. Raises sqlalchemy's errors.
    """
    import sqlalchemy
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _initialize_tables
    from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401 - its tables join Base's
    from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401

    old, new = sqlalchemy.create_engine(f"sqlite:///{database}"), sqlalchemy.create_engine(target)
    with contextlib.redirect_stdout(sys.stderr):
        _initialize_tables(new)  # type: ignore[no-untyped-call]
    tables = [table for table in Base.metadata.sorted_tables if table.name in _names(old)]
    with old.connect() as source, new.begin() as sink:
        for table in reversed(Base.metadata.sorted_tables):
            sink.execute(table.delete())
        num_rows = sum(_copy(source, sink, table, artifacts.as_uri()) for table in tables)
        for table in tables:
            _go_on_counting(sink, table)
    old.dispose()
    new.dispose()
    return num_rows


def _names(engine: Engine) -> set[str]:
    import sqlalchemy

    return set(sqlalchemy.inspect(engine).get_table_names())


def _copy(source: Connection, sink: Connection, table: Table, folder: str) -> int:
    num_rows = 0
    found = source.execution_options(yield_per=BATCH).execute(table.select())
    for part in found.mappings().partitions(BATCH):
        rows = [{name: _rewritten(name, value, folder) for name, value in row.items()} for row in part]
        sink.execute(table.insert(), rows)
        num_rows += len(rows)
    return num_rows


def _rewritten(column: str, value: Any, folder: str) -> Any:
    is_ours = column in ADDRESSES and isinstance(value, str) and value.startswith(folder)
    return f"mlflow-artifacts:{value.removeprefix(folder)}" if is_ours else value


def _go_on_counting(sink: Connection, table: Table) -> None:
    """The next number that the database gives follows the largest one copied."""
    from sqlalchemy import Integer, func, select

    for column in table.primary_key.columns:
        if isinstance(column.type, Integer):
            sequence = sink.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
            largest = sink.scalar(select(func.max(column)))
            if sequence and largest:
                sink.execute(select(func.setval(sequence, largest)))
