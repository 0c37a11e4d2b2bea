"""What the gateway is told: where the servers are, which products are served.

One JSON record, read again on change. It holds no secret. What opens the servers behind the gateway lies in the
home's file of secrets, named here.
"""

import base64
import logging
import os
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.profile import ProfileError, Secrets

LOG = logging.getLogger("roadworthy.gateway")
_Stamp = tuple[int, int, int]


class GatewayConfigError(ValueError):
    """The file is not a gateway's configuration; the message says where and why."""


class GatewayConfig(BaseModel):
    """`products`: the address of each product's router by name; `ports`: where this gateway listens, by service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow: str = Field(pattern=r"^https?://[^/]+$", description="scheme, host and port, no path")
    prefect: str = Field(pattern=r"^https?://[^/]+$")
    products: dict[str, str] = {}
    ports: dict[str, int] = Field(default={}, description="mlflow, prefect, serving; for the links of the page")
    user: str = Field("roadworthy", description="as whom the gateway comes to MLflow and Prefect")
    secrets: Path
    keys: Path = Field(description="hashes of API keys; read again when it changes")
    audit: Path | None = None
    max_body_bytes: int = Field(64_000_000, ge=1, description="of a request that uploads no file")
    max_upload_bytes: int = Field(100_000_000_000, ge=1, description="of one artifact")


class Credentials(NamedTuple):
    """What the gateway shows the servers behind it: headers, and Prefect's token for its sockets."""

    mlflow: str
    prefect: str
    prefect_token: str


def read_config(path: Path) -> GatewayConfig:
    """The configuration in `path`; raises GatewayConfigError."""
    try:
        return GatewayConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise GatewayConfigError(f"{path}: expected a gateway's configuration, got {error}") from error


def read_credentials(config: GatewayConfig) -> Credentials:
    """Raises ProfileError, which shows nothing of the file."""
    try:
        found = Secrets.model_validate_json(config.secrets.read_bytes())
    except (OSError, ValidationError) as error:
        raise ProfileError(f"{config.secrets}: expected a home's secrets, got {type(error).__name__}") from None
    prefect = f"{config.user}:{found.prefect.get_secret_value()}"
    return Credentials(_basic(f"{config.user}:{found.mlflow.get_secret_value()}"), _basic(prefect), prefect)


class Told:
    """The configuration as it is now; a file that cannot be read leaves the last one standing."""

    def __init__(self, path: Path) -> None:
        """Raises GatewayConfigError or ProfileError when there is nothing to start from."""
        self._path = path
        self._config = read_config(path)
        self._stamp = _stamp(path)
        self.credentials = read_credentials(self._config)

    def config(self) -> GatewayConfig:
        """Costs one `stat`."""
        if (stamp := _stamp(self._path)) != self._stamp:
            self._stamp = stamp
            try:
                config = read_config(self._path)
                self.credentials = read_credentials(config)
                self._config = config
            except (GatewayConfigError, ProfileError) as error:
                LOG.error("the old configuration holds: %s", error)
        return self._config


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, on every call
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_ino, status.st_size


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()
