"""Defines the addresses that pass between flows: frozen, JSON, content-hashed.

Never tensors, never frames.
"""

from pydantic import BaseModel, ConfigDict


class Ref(BaseModel):
    """A frozen address."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataRef(Ref):
    """An immutable snapshot in the object store: `snapshots/<digest>/`."""

    name: str
    task: str
    digest: str
    key: str


class RunRef(Ref):
    """A tracked run and the folder of the store that holds what it made."""

    run_id: str
    step: str
    key: str


class ModelRef(Ref):
    """A registered version and the digest of its parcel, `parcels/<digest>/` in the object store."""

    product: str
    version: int
    digest: str


class BentoRef(Ref):
    """A built Bento of one model version."""

    product: str
    version: int
    tag: str
    path: str
