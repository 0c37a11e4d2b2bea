"""Every setting, read from the environment once. The only reader of `os.environ`.

All state lives under one folder, `./.roadworthy` or `ROADWORTHY_HOME`; `environment()` points every library there and
switches off all telemetry.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.profile import BUCKET, SERVICES, read_profile, read_secrets

USER = "roadworthy"  # as whom this home's own programs come to its servers


class Settings(BaseSettings):
    """`ROADWORTHY_<NAME>` in the environment; refuses to be changed once read."""

    model_config = SettingsConfigDict(env_prefix="ROADWORTHY_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".roadworthy"), description="the one folder that holds all state")
    store: str = Field(default="", description="object store: a folder or s3://bucket/prefix; empty: HOME/store")
    s3_endpoint: str = Field(default="", description="endpoint of an S3-compatible store; empty: AWS")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = Field(default=None, description="empty: boto3's own credential chain")
    s3_secret_key: SecretStr | None = None
    s3_checksums: str = Field(default="when_supported", description="`when_required` for older stores")
    tracking_uri: str = Field(default="", description="MLflow; empty: SQLite under HOME")
    masking_key: SecretStr | None = Field(default=None, description="keys the pseudonyms; empty: HOME/keys/masking.key")
    signing_passphrase: SecretStr | None = Field(default=None, description="opens HOME/keys/signing.key")
    watermark_owner: str = Field(default="", description="whose mark exported networks bear; empty: none")
    host: str = "127.0.0.1"
    mlflow_port: int = 5000
    prefect_port: int = 4200
    serve_port: int = 3000
    device: str = "auto"
    profile: Literal["embedded", "services"] = Field(default="embedded", description="`services`: real servers")
    tracking_user: str = Field(default="", description="MLflow with authentication: who we are")
    tracking_password: SecretStr | None = None
    prefect_api_url: str = Field(default="", description="Prefect's API; empty: the server of this home")
    prefect_auth: SecretStr | None = Field(default=None, description="user:password of Prefect's API")
    bind: str = Field(default="", description="services, in containers: what servers listen on; empty: loopback")
    gateway_port: int = Field(default=8080, description="services: where people and programs come in")
    postgres_host: str = "127.0.0.1"
    postgres_port: int = 5433
    s3_host: str = "127.0.0.1"
    s3_port: int = 8333
    prometheus_port: int = 9090
    mlflow_server_host: str = Field(default="127.0.0.1", description="services: behind the gateway")
    mlflow_server_port: int = 5001
    prefect_server_host: str = "127.0.0.1"
    prefect_server_port: int = 4201
    hooks_host: str = "127.0.0.1"
    hooks_port: int = Field(default=8081, description="services: what MLflow's webhooks reach")
    metrics_port: int = Field(default=8082, description="services: facts for Prometheus")
    backup_store: str = Field(default="", description="where backups go: a folder or s3://…; empty: HOME.backups")
    backup_key_file: Path | None = Field(default=None, description="backups are sealed with what is in this file")
    backup_num_kept: int = Field(default=14, ge=1, description="so many of the last backups are kept in any case")
    backup_days: int = Field(default=30, ge=0, description="backups younger than this are kept in any case")
    backup_s3_endpoint: str = Field(default="", description="of s3:// backups; empty: the store's, in an embedded home")
    backup_s3_access_key: SecretStr | None = None
    backup_s3_secret_key: SecretStr | None = None

    @property
    def folder(self) -> Path:
        """Absolute home."""
        return self.home.expanduser().resolve()

    @property
    def store_uri(self) -> str:
        return self.store or str(self.folder / "store")

    @property
    def is_services(self) -> bool:
        """Whether the servers are the real ones: PostgreSQL, S3, MLflow and Prefect behind the gateway."""
        return self.profile == SERVICES

    @property
    def mlflow_uri(self) -> str:
        return self.tracking_uri or f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}"


@cache
def settings() -> Settings:
    """The settings of this process; a wrong value raises pydantic's ValidationError naming the variable."""
    return with_profile(Settings())


def with_profile(config: Settings) -> Settings:
    """In a services home, with the ports and secrets of its servers wherever nobody has set others."""
    profile = read_profile(config.folder)
    if profile is None and not config.is_services:
        return config
    ports = {f"{name}_port": port for name, port in profile.ports.items()} if profile else {}
    found: dict[str, object] = {name: port for name, port in ports.items() if name in Settings.model_fields}
    chosen = config.model_copy(update={name: found[name] for name in found.keys() - config.model_fields_set})
    secrets = read_secrets(config.folder)
    rest = {
        "profile": SERVICES,
        "store": f"s3://{BUCKET}",
        "s3_endpoint": f"http://{chosen.s3_host}:{chosen.s3_port}",
        "s3_access_key": secrets.s3_access_key,
        "s3_secret_key": secrets.s3_secret_key,
        "tracking_uri": f"http://{chosen.mlflow_server_host}:{chosen.mlflow_server_port}",
        "tracking_user": USER,
        "tracking_password": secrets.mlflow,
        "prefect_api_url": f"http://{chosen.prefect_server_host}:{chosen.prefect_server_port}/api",
        "prefect_auth": SecretStr(f"{USER}:{secrets.prefect.get_secret_value()}"),
    }
    return chosen.model_copy(update={name: rest[name] for name in rest.keys() - config.model_fields_set})


class ServiceSettings(BaseSettings):
    """`ROADWORTHY_SERVE_<NAME>`: what one serving process is told; it needs no HOME. Frozen once read."""

    model_config = SettingsConfigDict(env_prefix="ROADWORTHY_SERVE_", frozen=True, extra="ignore")

    auth: Literal["keys", "jwt", "off"] = Field(default="keys", description="`off` only where loopback is bound")
    published_on: str = Field(default="", description="address a container's port is published on, for `auth=off`")
    keys_file: Path | None = Field(default=None, description="hashes of API keys; read again when it changes")
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_jwks: str = Field(default="", description="the issuer's key set: a file or an https address")
    proxies: str = Field(default="", description="comma-separated addresses whose X-Forwarded-For is believed")
    tls_cert: Path | None = None
    tls_key: Path | None = None
    signatures: Literal["required", "off"] = "required"
    trusted_keys: Path | None = Field(default=None, description="public keys (PEM file or folder); empty: FOLDER/trust")
    seal_key_file: Path | None = Field(default=None, description="opens sealed weights")
    seal_key_command: str = Field(default="", description="prints the key that opens sealed weights, e.g. a KMS client")
    grpc_port: int | None = None
    batch_window_ms: float = Field(default=0.0, ge=0, description="how long a row may wait for others; 0: not at all")
    deadline_ms: float = Field(default=250.0, gt=0, description="a request that would wait longer is answered 503")
    max_connections: int = Field(default=1024, ge=1)
    header_timeout_s: float = Field(default=10.0, gt=0, description="the whole head of a request must come in this")
    body_timeout_s: float = Field(default=30.0, gt=0, description="the whole body of a request must come in this")
    requests_per_minute: int = Field(default=0, ge=0, description="quota of a key that has none of its own; 0: none")
    capture_folder: Path | None = Field(default=None, description="spool of captured predictions; empty: none")
    capture_share: float = Field(default=1.0, ge=0, le=1)
    capture_per_s: float = Field(default=50.0, ge=0, description="more than these in a second are not captured")
    capture_masked: str = Field(default="", description="comma-separated inputs that are never captured")
    audit_file: Path | None = Field(default=None, description="hash-chained ledger of refused and privileged calls")
    otlp_endpoint: str = Field(default="", description="collector of traces, OTLP over HTTP; empty: no traces")
    otlp_share: float = Field(default=1.0, ge=0, le=1, description="of the requests whose caller has not decided")


TELEMETRY_OFF = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def environment(config: Settings) -> dict[str, str]:
    """What child processes, and the libraries of this one, must find in the environment."""
    home = config.folder
    places = {
        "ROADWORTHY_HOME": home,
        "PREFECT_HOME": home / "prefect",
        "BENTOML_HOME": home / "bentoml",
        "MPLCONFIGDIR": home / "cache" / "matplotlib",
        "TORCHINDUCTOR_CACHE_DIR": home / "cache" / "inductor",
    }
    return {
        **TELEMETRY_OFF,
        **_credentials(config),
        **{name: str(path) for name, path in places.items()},
        "MLFLOW_TRACKING_URI": config.mlflow_uri,
        "MLFLOW_REGISTRY_URI": config.mlflow_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a server that is gone is said to be gone within seconds, not minutes
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        # Half the cores, no spinning: threads waiting for a core that others use made an epoch four times longer.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2))),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }


def _credentials(config: Settings) -> dict[str, str]:
    """What MLflow's and Prefect's clients show their servers."""
    found = {}
    if config.tracking_password is not None:
        found["MLFLOW_TRACKING_USERNAME"] = config.tracking_user
        found["MLFLOW_TRACKING_PASSWORD"] = config.tracking_password.get_secret_value()
    if config.prefect_auth is not None:
        found["PREFECT_API_AUTH_STRING"] = config.prefect_auth.get_secret_value()
    return found


def apply(config: Settings, **extra: str) -> None:
    """Set the environment of this process; call before importing MLflow, Prefect, BentoML or ONNX Runtime."""
    os.environ.update({**environment(config), **extra})


def child_environment(config: Settings, **extra: str) -> dict[str, str]:
    """The whole environment of a child process: this one's, ours, then `extra`."""
    return {**os.environ, **environment(config), **extra}


def replace_environment(environment: Mapping[str, str]) -> None:
    """Let this process have another environment, as if it had been started with it; before `settings()` is read."""
    os.environ.clear()
    os.environ.update(environment)
    settings.cache_clear()
