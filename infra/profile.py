"""What a services home is: ports of its servers, secrets made at its first start.

`roadworthy up --profile services` writes both once. `HOME/profile.json` says where the servers are and holds no secret;
`HOME/keys/services.json` (0600) holds what they ask each other for. No secret has a default.
"""

import secrets
from pathlib import Path

from cryptography.fernet import Fernet
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from infra.atomic import create_atomic, write_atomic

SERVICES, EMBEDDED = "services", "embedded"
FILE, SECRETS_FILE = "profile.json", Path("keys") / "services.json"
BUCKET = "roadworthy"


class ProfileError(RuntimeError):
    """The profile or the secrets of a home cannot be read; the message says which file and what to do."""


class Profile(BaseModel):
    """`ports`: the TCP port of each server by name, chosen once so that addresses stay the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    ports: dict[str, int]


def _made() -> SecretStr:
    return SecretStr(secrets.token_urlsafe(32))


class Secrets(BaseModel):
    """What the servers of one home ask each other for; made, never chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres: SecretStr = Field(default_factory=_made, description="role `roadworthy`, which backs up and restores")
    mlflow_database: SecretStr = Field(default_factory=_made)
    prefect_database: SecretStr = Field(default_factory=_made)
    mlflow: SecretStr = Field(default_factory=_made, description="MLflow's user `roadworthy`")
    prefect: SecretStr = Field(default_factory=_made, description="Prefect's API")
    s3_access_key: SecretStr = Field(default_factory=lambda: SecretStr(f"RW{secrets.token_hex(9).upper()}"))
    s3_secret_key: SecretStr = Field(default_factory=_made)
    flask: SecretStr = Field(default_factory=_made, description="signs MLflow's form tokens")
    webhook: SecretStr = Field(default_factory=_made, description="signs what MLflow's webhooks deliver")
    webhook_encryption: SecretStr = Field(default_factory=lambda: SecretStr(Fernet.generate_key().decode()))

    @field_serializer("*", when_used="json")
    def _plain(self, value: SecretStr) -> str:
        """JSON is only written into the file of secrets; whatever else shows a record shows stars."""
        return value.get_secret_value()


def read_profile(home: Path) -> Profile | None:
    """The profile of a services home, None in an embedded one. Raises ProfileError."""
    path = home / FILE
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ProfileError(f"{path}: expected the ports of a services home, got {error}; restore it") from None


def write_profile(home: Path, profile: Profile) -> None:
    """From now on HOME is a services home; its servers start with the next `up`."""
    write_atomic(home / FILE, profile.model_dump_json(indent=1).encode())


def read_secrets(home: Path) -> Secrets:
    """The secrets of a home, made on the first call. Raises ProfileError."""
    path = home / SECRETS_FILE
    if not path.exists():
        create_atomic(path, Secrets().model_dump_json(indent=1).encode(), mode=0o600)
    try:
        return Secrets.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ProfileError(f"{path}, {'.'.join(map(str, first['loc']))}: {first['msg']}; restore it") from None
