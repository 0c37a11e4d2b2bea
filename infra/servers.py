"""The servers that come with Roadworthy: Prefect and MLflow, as programs of the local group.

What is fixed about the MLflow server is in `mlflow/server.env`; what depends on HOME and ports is here.
"""

import sys
from pathlib import Path

from infra.atomic import write_atomic
from infra.postgres import MLFLOW, PREFECT, dsn, postgres_server
from infra.postgres import place as postgres_place
from infra.profile import BUCKET, read_secrets
from infra.seaweedfs import s3_server
from infra.settings import USER, Settings
from infra.supervise import Program
from infra.tracking_store import SQLITE, artifact_folder, make_store

MLFLOW_SETTINGS = Path(__file__).parents[1] / "mlflow" / "server.env"
LOOPBACK = "127.0.0.1"
MLFLOW_AUTH = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
# Without it every call costs a hash.
auth_cache_ttl_seconds = 60
"""
PREFECT_SETTINGS = {
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 24 * 3600),
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "30",
}


def servers(config: Settings) -> tuple[Program, ...]:
    """Prefect, and MLflow unless `tracking_uri` already names a server; a missing SQLite store is made first.

    In a services home PostgreSQL and an S3 server come before them.
    """
    if config.is_services:
        return (postgres_server(config), s3_server(config), prefect_on_postgres(config), mlflow_on_postgres(config))
    if config.mlflow_uri.startswith(("http://", "https://")):
        return (prefect_server(config),)
    if config.mlflow_uri.startswith(SQLITE):
        make_store(Path(config.mlflow_uri.removeprefix(SQLITE)), artifact_folder(config))
    return (prefect_server(config), mlflow_server(config))


def prefect_url(config: Settings) -> str:
    return address(config, config.prefect_port)


def prefect_api(config: Settings) -> str:
    """For PREFECT_API_URL: in a services home the server itself, which the gateway stands in front of."""
    return config.prefect_api_url or f"{prefect_url(config)}/api"


def mlflow_url(config: Settings) -> str:
    """The UI, here or where `tracking_uri` says."""
    is_elsewhere = not config.is_services and config.mlflow_uri.startswith(("http://", "https://"))
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
            "PREFECT_UI_STATIC_DIRECTORY": str(config.folder / "prefect" / "ui"),
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


def prefect_on_postgres(config: Settings) -> Program:
    """The same on its own database, behind the gateway; asks everybody for its auth string."""
    api = f"http://{config.prefect_server_host}:{config.prefect_server_port}/api"
    auth = config.prefect_auth.get_secret_value() if config.prefect_auth else ""
    place = ("--host", config.bind or LOOPBACK, "--port", str(config.prefect_server_port))
    return Program(
        name="prefect",
        argv=(sys.executable, "-m", "prefect", "server", "start", *place),
        environment={
            **PREFECT_SETTINGS,
            "PREFECT_UI_STATIC_DIRECTORY": str(config.folder / "prefect" / "ui"),
            "PREFECT_API_URL": api,
            "PREFECT_UI_API_URL": f"{prefect_url(config)}/api",
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": dsn(config, PREFECT, driver="asyncpg"),
        },
        url=prefect_url(config),
        port=config.prefect_server_port,
        ready_url=f"{api}/ready",
        priority=100,
        needs=(postgres_place(config),),
        start_retries=100,
    )


def mlflow_on_postgres(config: Settings) -> Program:
    """The same on its own database, with users, artifacts in the bucket, behind the gateway."""
    url = f"http://{config.mlflow_server_host}:{config.mlflow_server_port}"
    return Program(
        name="mlflow",
        argv=(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
        environment={
            **_read_settings(MLFLOW_SETTINGS),
            **_mlflow_secrets(config),
            "MLFLOW_HOST": config.bind or LOOPBACK,
            **({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"} if config.bind else {}),  # it asks for a password
            "MLFLOW_PORT": str(config.mlflow_server_port),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
            "MLFLOW_S3_ENDPOINT_URL": config.s3_endpoint,
            "AWS_DEFAULT_REGION": config.s3_region,
        },
        url=mlflow_url(config),
        port=config.mlflow_server_port,
        ready_url=f"{url}/health",
        ready_text="OK",
        priority=200,
        needs=(postgres_place(config), f"{config.s3_host}:{config.s3_port}"),
        start_retries=100,
    )


def _mlflow_secrets(config: Settings) -> dict[str, str]:
    """Its databases, its first user and its keys; the users' tables lie in its own database."""
    secrets = read_secrets(config.folder)
    database = dsn(config, MLFLOW, driver="psycopg")
    auth = config.folder / "run" / "mlflow-auth.ini"
    write_atomic(auth, MLFLOW_AUTH.format(database=database.replace("%", "%%")).encode(), mode=0o600)
    return {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(auth),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.mlflow.get_secret_value(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.flask.get_secret_value(),
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secrets.webhook_encryption.get_secret_value(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",  # to our own receiver on loopback, signed
        "MLFLOW_WEBHOOK_CACHE_TTL": "2",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "AWS_ACCESS_KEY_ID": secrets.s3_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret_key.get_secret_value(),
    }


def address(config: Settings, port: int) -> str:
    """Where a server that binds `host` is reached from this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - a comparison, nothing is bound here
    host = reachable.get(config.host, f"[{config.host}]" if ":" in config.host else config.host)
    return f"http://{host}:{port}"


def _read_settings(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}
