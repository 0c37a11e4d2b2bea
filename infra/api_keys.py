"""Keeps who may call: API keys, of which only an argon2id hash is ever stored.

A key is `rw_<id>_<secret>`: the id is public and names the record, the secret has 192 random bits. argon2id runs at
9 MiB and 4 passes, one of the settings that OWASP's password storage cheat sheet calls equal (19 MiB and 2 passes is
another): RFC 9106's low-memory profile, 64 MiB, would be half of a small serving container. With a random secret the
hash guards a stolen file, not a weak password. `infra.key_ring` is the side of the services, which only reads.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from argon2 import PasswordHasher
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.atomic import exclusive, write_atomic
from infra.roles import Role

Verb = Literal["predict", "explain", "read", "operate"]
VERBS: tuple[Verb, ...] = get_args(Verb)
ANY = "*"
NUM_SECRET_BYTES = 24
HASHER = PasswordHasher(time_cost=4, memory_cost=9216, parallelism=1)


class ApiKeyError(ValueError):
    """A key or the file of keys cannot be used; the message says which and what to do. It never holds a secret."""


class TokenError(ValueError):
    """A token is not accepted; the message says why and holds nothing of it. `is_guess`: its issuer never signed it."""

    def __init__(self, reason: str, is_guess: bool = True) -> None:
        super().__init__(reason)
        self.is_guess = is_guess


class IssuerError(RuntimeError):
    """The issuer's keys cannot be had; no token can be checked."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key or a token allows, in the form in which it is asked on every request.

    allowed: pairs (verb, model), where the model may be `*`; ends: seconds since 1970, infinity for never;
    requests_per_minute and max_body_bytes: 0 where the service's own limits hold; role: empty for one that only asks
    models.
    """

    id: str
    name: str
    tenant: str
    allowed: frozenset[tuple[str, str]]
    ends: float = float("inf")
    revoked: bool = False
    requests_per_minute: int = 0
    max_body_bytes: int = 0
    role: str = ""

    def allows(self, verb: str, model: str) -> bool:
        """Whether this verb may be used on this model; an empty model asks for the verb on any."""
        if (verb, ANY) in self.allowed or (verb, model) in self.allowed:
            return True
        return not model and any(allowed == verb for allowed, _ in self.allowed)


class KeyRecord(BaseModel):
    """One key as it is stored; `hash` is argon2's encoded text, times are aware."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str = Field(pattern=r"^[\w .@-]{1,64}$")
    tenant: str = Field("", pattern=r"^[\w.-]{0,64}$")
    models: tuple[str, ...] = Field((ANY,), min_length=1)
    verbs: tuple[Verb, ...] = Field(min_length=1)
    role: Role | None = Field(None, exclude_if=lambda role: role is None)  # images of before know no such field
    created: datetime
    expires: datetime | None = None
    requests_per_minute: int = Field(0, ge=0)
    max_body_bytes: int = Field(0, ge=0)
    revoked: datetime | None = None
    hash: str

    def grant(self) -> Grant:
        """This record as the guard asks it."""
        allowed = frozenset((str(verb), model) for verb in self.verbs for model in self.models)
        ends = self.expires.timestamp() if self.expires else float("inf")
        return Grant(
            self.id, self.name, self.tenant, allowed, ends, self.revoked is not None, self.requests_per_minute,
            self.max_body_bytes, self.role or "",
        )  # fmt: skip

    def public(self) -> dict[str, object]:
        """Every field that may be shown: all but the hash."""
        return self.model_dump(mode="json", exclude={"hash"})


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    keys: tuple[KeyRecord, ...] = ()


class KeyFile:
    """The file of keys as its owner writes it: whole or not at all, one writer at a time, readable by its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> tuple[KeyRecord, ...]:
        """Every key, oldest first, none where there is no file. Raises ApiKeyError when it is not a file of keys."""
        return parse_records(self.path.read_bytes(), str(self.path)) if self.path.exists() else ()

    def one(self, key_id: str) -> KeyRecord:
        """The record with this id. Raises ApiKeyError naming the known ids."""
        records = self.records()
        found = next((record for record in records if record.id == key_id), None)
        if found is None:
            known = ", ".join(record.id for record in records) or "none"
            raise ApiKeyError(f"key {key_id}: expected the id of a key ({known}); `roadworthy key list` shows them")
        return found

    def add(self, record: KeyRecord) -> None:
        """Store a new key. Raises ApiKeyError when its id is taken."""
        with exclusive(self.path.with_suffix(".lock")):
            records = self.records()
            if any(known.id == record.id for known in records):
                raise ApiKeyError(f"key {record.id}: expected a new id, got one in use; make another key")
            self._write([*records, record])

    def give_role(self, key_id: str, role: Role) -> KeyRecord:
        """Let a key of before roles act in one. Raises ApiKeyError for an unknown id."""
        with exclusive(self.path.with_suffix(".lock")):
            given = self.one(key_id).model_copy(update={"role": role})
            self._write(given if record.id == key_id else record for record in self.records())
        return given

    def revoke(self, key_id: str, when: datetime) -> KeyRecord:
        """Mark a key as revoked for good; one that is already stays as it is. Raises ApiKeyError for an unknown id."""
        with exclusive(self.path.with_suffix(".lock")):
            found = self.one(key_id)
            revoked = found.model_copy(update={"revoked": found.revoked or when})
            self._write(revoked if record.id == key_id else record for record in self.records())
        return revoked

    def _write(self, records: Iterable[KeyRecord]) -> None:
        content = _Stored(keys=tuple(records)).model_dump_json(indent=1).encode() + b"\n"
        self.path.parent.chmod(0o700)
        write_atomic(self.path, content, mode=0o600)


def issue(
    name: str, verbs: Iterable[Verb], created: datetime, *, models: Iterable[str] = (ANY,), tenant: str = "",
    expires: datetime | None = None, requests_per_minute: int = 0, max_body_bytes: int = 0, role: Role | None = None,
) -> tuple[KeyRecord, str]:  # fmt: skip
    """A new key: its record, to be stored, and the key itself, to be shown once. Raises ApiKeyError."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(NUM_SECRET_BYTES)
    fields = {"requests_per_minute": requests_per_minute, "max_body_bytes": max_body_bytes}
    try:
        record = KeyRecord(
            id=key_id, name=name, tenant=tenant, models=tuple(models), verbs=tuple(verbs), created=created,
            role=role, expires=expires, hash=HASHER.hash(secret), **fields,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ApiKeyError(f"key {name!r}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return record, f"rw_{key_id}_{secret}"


def parse_records(raw_content: bytes, where: str) -> tuple[KeyRecord, ...]:
    """The records in the text of a file of keys. Raises ApiKeyError, which shows nothing of the text."""
    try:  # pydantic has no other way to say that this is none, and its own message would show the hashes
        return _Stored.model_validate_json(raw_content).keys
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "text"
        raise ApiKeyError(f"{where}, {place}: {first['msg']}; restore it from a backup") from None
