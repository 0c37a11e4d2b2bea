"""Both databases at one moment each, and put back: SQLite by its API, PostgreSQL by pg_dump.

Ids are read in the transaction that is dumped, and again after a restore: equal, or the restore says so. Absolute paths
of the old home that MLflow and Prefect keep in SQLite are made those of the new one. Where the home's secrets are new,
what is sealed with the old ones is removed from PostgreSQL, and its owners make it anew at their start.
"""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from infra.backup import BackupError, Count
from infra.postgres import ADMIN, dsn, password, programs
from infra.settings import Settings
from infra.tracking_store import SQLITE

MLFLOW, PREFECT = "mlflow", "prefect"
IDS: Mapping[str, Mapping[str, tuple[str, str]]] = {  # what -> (table, an expression that names one row)
    MLFLOW: {
        "experiments": ("experiments", "experiment_id"),
        "runs": ("runs", "run_uuid"),
        "logged_models": ("logged_models", "model_id"),
        "versions": ("model_versions", "name || '/' || version"),
        "aliases": ("registered_model_aliases", "name || '@' || alias || '=' || version"),
    },
    PREFECT: {"flow_runs": ("flow_run", "id"), "task_runs": ("task_run", "id"), "deployments": ("deployment", "id")},
}
PATHS: Mapping[str, tuple[tuple[str, str], ...]] = {  # columns that hold paths below HOME
    MLFLOW: (
        ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
        ("model_versions", "source"), ("model_versions", "storage_location"), ("datasets", "dataset_source"),
    ),
    PREFECT: (("flow_run_state", "data"), ("task_run_state", "data"), ("artifact", "data")),
}  # fmt: skip
SEALED = {MLFLOW: ("webhooks", "users")}  # rows that only the old secrets open; `up` makes them anew
Kind = Literal["sqlite", "postgres"]
Query = Callable[[str], Iterable[tuple[Any, ...]]]


def databases(config: Settings) -> dict[str, Kind]:
    """The databases of this home that a backup takes; those on servers that are somebody else's are left to them."""
    if config.is_services:
        return {MLFLOW: "postgres", PREFECT: "postgres"}
    return {name: "sqlite" for name in (MLFLOW, PREFECT) if _sqlite_file(config, name).is_file()}


def left_to_others(config: Settings) -> list[str]:
    """What a backup of this home cannot hold: the database of an MLflow server that is not its own."""
    is_own = config.is_services or config.mlflow_uri.startswith(SQLITE)
    return [] if is_own else [f"MLflow's database, behind {config.mlflow_uri}"]


def snapshot(config: Settings, name: str, target: Path) -> dict[str, Count]:
    """Write the database as it is at one moment to `target`; returns its ids. Raises BackupError."""
    if config.is_services:
        return _dump(config, name, target)
    with closing(_read_only(_sqlite_file(config, name))) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        return _ids(name, copy.execute, _sqlite_tables(copy))


def put_back(config: Settings, name: str, dump: Path, old_home: str, *, has_new_secrets: bool) -> dict[str, Count]:
    """Make `dump` this home's database, whole or not at all; returns its ids. Raises BackupError."""
    if config.is_services:
        return _load(config, name, dump, old_home, has_new_secrets)
    with closing(sqlite3.connect(dump)) as copy:
        with copy:
            _rewrite(name, old_home, config.folder, copy.execute, _sqlite_columns(copy))
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = _ids(name, copy.execute, _sqlite_tables(copy))
    place = _sqlite_file(config, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("-wal", "-shm"):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
        Path(f"{dump}{suffix}").unlink(missing_ok=True)
    dump.replace(place)
    return found


def ids(config: Settings, name: str) -> dict[str, Count]:
    """The ids in this home's database now."""
    if config.is_services:
        with _postgres(config, name) as query:
            return _ids(name, query, _postgres_tables(query))
    with closing(_read_only(_sqlite_file(config, name))) as connection:
        return _ids(name, connection.execute, _sqlite_tables(connection))


def _sqlite_file(config: Settings, name: str) -> Path:
    if name == MLFLOW and config.mlflow_uri.startswith(SQLITE):
        return Path(config.mlflow_uri.removeprefix(SQLITE))
    return config.folder / name / f"{name}.db"


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60)


def _sqlite_tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _sqlite_columns(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = ((table, connection.execute(f"PRAGMA table_info({table})")) for table in _sqlite_tables(connection))
    return {(table, row[1]): "text" for table, columns in rows for row in columns}


def _ids(name: str, query: Query, tables: set[str]) -> dict[str, Count]:
    found = {}
    for what, (table, expression) in IDS[name].items():
        if table in tables:
            rows = sorted(str(row[0]).replace("-", "") for row in query(f"SELECT {expression} FROM {table}"))  # noqa: S608
            found[what] = Count(num=len(rows), sha256=sha256("\n".join(rows).encode()).hexdigest())
    return found


def _rewrite(name: str, old_home: str, new_home: Path, query: Query, columns: Mapping[tuple[str, str], str]) -> None:
    """Paths below the old home become paths below the new one, also those written as URLs."""
    url = (f"file://{quote(old_home)}/", f"file://{quote(str(new_home))}/")
    plain = (f"{old_home}/", f"{new_home}/")
    for table, column in PATHS[name]:
        if kind := columns.get((table, column)):
            text = f"CAST({column} AS TEXT)"
            by_url, by_path = (f"replace({text}, {_literal(old)}, {_literal(new)})" for old, new in (url, plain))
            value = f"CASE WHEN {text} LIKE {_literal(f'%{url[0]}%')} THEN {by_url} ELSE {by_path} END"
            typed = value if kind == "text" else f"({value})::{kind}"
            found = " OR ".join(f"{text} LIKE {_literal(f'%{old}%')}" for old, _ in (url, plain))
            query(f"UPDATE {table} SET {column} = {typed} WHERE {found}")  # noqa: S608


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _postgres(config: Settings, name: str, *, read_only: bool = True) -> Iterator[Query]:
    """One transaction on a database of this home, as its administrator. Raises BackupError."""
    import psycopg

    try:
        with psycopg.connect(dsn(config, name, ADMIN), connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = read_only

            def query(statement: str) -> list[tuple[Any, ...]]:
                cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []

            yield query
    except psycopg.Error as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackupError(f"PostgreSQL, database {name}: {first}; is it running? roadworthy status") from error


def _postgres_tables(query: Query) -> set[str]:
    return {str(row[0]) for row in query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def _postgres_columns(query: Query) -> dict[tuple[str, str], str]:
    rows = query(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    )
    kinds = {"json": "json", "jsonb": "jsonb"}
    return {(table, column): kinds.get(kind, "text") for table, column, kind in rows}


def _dump(config: Settings, name: str, target: Path) -> dict[str, Count]:
    """Not compressed by pg_dump: pieces are, and those that did not change are found again."""
    with _postgres(config, name) as query:
        ((shared,),) = query("SELECT pg_export_snapshot()")
        found = _ids(name, query, _postgres_tables(query))
        _run(config, "pg_dump", name, "--format=custom", "--compress=0", f"--snapshot={shared}", f"--file={target}")
    return found


def _load(config: Settings, name: str, dump: Path, old_home: str, has_new_secrets: bool) -> dict[str, Count]:
    _run(config, "pg_restore", name, "--clean", "--if-exists", "--single-transaction", "--exit-on-error", str(dump))
    with _postgres(config, name, read_only=False) as query:
        tables = _postgres_tables(query)
        _rewrite(name, old_home, config.folder, query, _postgres_columns(query))
        for table in SEALED.get(name, ()) if has_new_secrets else ():
            if table in tables:
                query(f"TRUNCATE {table} CASCADE")
        return _ids(name, query, tables)


def _run(config: Settings, program: str, database: str, *words: str) -> None:
    """The password goes through the environment of the program, which nobody else can read."""
    place = ("--host", config.postgres_host, "--port", str(config.postgres_port), "--username", ADMIN, "--no-password")
    command = [str(programs() / program), *place, "--dbname", database, *words]
    environment = {**_inherited(), "PGPASSWORD": password(config, ADMIN)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BackupError(f"{program}, database {database}: {done.stderr.strip()[-500:]}")


def _inherited() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
