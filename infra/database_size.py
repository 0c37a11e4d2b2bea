"""How large the databases are, so that somebody sees when they grow for ever."""

from pathlib import Path

from infra.postgres import MLFLOW, PREFECT, dsn
from infra.settings import Settings
from infra.tracking_store import SQLITE


def database_bytes(config: Settings) -> dict[str, int]:
    """Bytes of each database, `mlflow` and `prefect`; in an embedded home without the write-ahead log, some MB."""
    if config.is_services:
        return {name: _on_postgres(config, name) for name in (MLFLOW, PREFECT)}
    files = {PREFECT: config.folder / "prefect" / "prefect.db"}
    if config.mlflow_uri.startswith(SQLITE):
        files[MLFLOW] = Path(config.mlflow_uri.removeprefix(SQLITE))
    return {name: path.stat().st_size for name, path in files.items() if path.exists()}


def _on_postgres(config: Settings, name: str) -> int:
    import psycopg

    with psycopg.connect(dsn(config, name)) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
