"""The servers that come with Roadworthy: Prefect and MLflow, as programs of the local group.

What is fixed about the MLflow server is in `mlflow/server.env`; what depends on HOME and ports is here.
"""

import sys
from pathlib import Path

from infra.settings import Settings
from infra.supervise import Program
from infra.tracking_store import SQLITE, artifact_folder, make_store

MLFLOW_SETTINGS = Path(__file__).parents[1] / "mlflow" / "server.env"
PREFECT_SETTINGS = {
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 24 * 3600),
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "30",
}


def servers(config: Settings) -> tuple[Program, ...]:
    """Prefect, and MLflow unless `tracking_uri` already names a server; a missing SQLite store is made first."""
    if config.mlflow_uri.startswith(("http://", "https://")):
        return (prefect_server(config),)
    if config.mlflow_uri.startswith(SQLITE):
        make_store(Path(config.mlflow_uri.removeprefix(SQLITE)), artifact_folder(config))
    return (prefect_server(config), mlflow_server(config))


def prefect_url(config: Settings) -> str:
    return address(config, config.prefect_port)


def prefect_api(config: Settings) -> str:
    """For PREFECT_API_URL."""
    return f"{prefect_url(config)}/api"


def mlflow_url(config: Settings) -> str:
    """The UI, here or where `tracking_uri` says."""
    is_elsewhere = config.mlflow_uri.startswith(("http://", "https://"))
    return config.mlflow_uri if is_elsewhere else address(config, config.mlflow_port)


def prefect_server(config: Settings) -> Program:
    """API, UI and scheduler, on SQLite under HOME/prefect; old runs and events are removed after 90 days."""
    (config.folder / "prefect").mkdir(parents=True, exist_ok=True)
    database = f"sqlite+aiosqlite:///{config.folder / 'prefect' / 'prefect.db'}"
    place = ("--host", config.host, "--port", str(config.prefect_port))
    return Program(
        name="prefect",
        argv=(sys.executable, "-m", "prefect", "server", "start", *place),
        environment={
            **PREFECT_SETTINGS,
            "PREFECT_API_URL": prefect_api(config),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        },
        url=prefect_url(config),
        port=config.prefect_port,
        ready_url=f"{prefect_api(config)}/health",
        ready_text="true",
        priority=100,
    )


def mlflow_server(config: Settings) -> Program:
    """UI and REST API on the tracking database; artifacts under HOME/mlflow/artifacts."""
    artifacts = artifact_folder(config)
    artifacts.mkdir(parents=True, exist_ok=True)
    url = address(config, config.mlflow_port)
    return Program(
        name="mlflow",
        argv=(sys.executable, "-m", "mlflow", "server"),
        environment={
            **_read_settings(MLFLOW_SETTINGS),
            "MLFLOW_HOST": config.host,
            "MLFLOW_PORT": str(config.mlflow_port),
            "MLFLOW_BACKEND_STORE_URI": config.mlflow_uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(artifacts),
        },
        url=url,
        port=config.mlflow_port,
        ready_url=f"{url}/health",
        ready_text="OK",
        priority=200,
    )


def address(config: Settings, port: int) -> str:
    """Where a server that binds `host` is reached from this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - a comparison, nothing is bound here
    host = reachable.get(config.host, f"[{config.host}]" if ":" in config.host else config.host)
    return f"http://{host}:{port}"


def _read_settings(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}
