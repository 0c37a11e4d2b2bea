"""Reads every object of a bucket piece by piece, also those that others than we put there.

MLflow writes its artifacts into the same bucket without our hash in their metadata; a backup hashes what it reads.
"""

from collections.abc import Iterator
from io import RawIOBase
from typing import NamedTuple

from infra.objects import LARGE_BYTES
from infra.s3_client import Bucket, ConflictError
from infra.settings import Settings


class Found(NamedTuple):
    """An object as it was listed; `name` is its whole name in the bucket, `key` the one in the store."""

    key: str
    name: str
    size: int
    etag: str
    modified_s: float


class ObjectReader(RawIOBase):
    """One version of an object, read by ranges. Raises FileNotFoundError when it was replaced meanwhile."""

    def __init__(self, bucket: Bucket, found: Found) -> None:
        self._bucket, self._found, self._at = bucket, found, 0

    def read(self, size: int = -1) -> bytes:
        size = self._found.size if size < 0 else size
        end = min(self._at + min(size, LARGE_BYTES), self._found.size) - 1
        if end < self._at:
            return b""
        try:
            _, data = self._bucket.fetch(self._found.name, Range=f"bytes={self._at}-{end}", IfMatch=self._found.etag)
        except ConflictError as error:
            raise FileNotFoundError(f"{self._found.name}: replaced while it was read") from error
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at


def bucket_of(config: Settings) -> tuple[Bucket, str]:
    """The bucket of the store, and what every name of ours in it begins with."""
    name, _, prefix = config.store_uri.removeprefix("s3://").strip("/").partition("/")
    return Bucket(name, config, 5), f"{prefix}/" if prefix else ""


def listed(bucket: Bucket, start: str, below: str = "") -> Iterator[Found]:
    """Every object whose name begins with `start` and `below`, without uploads under way."""
    from infra.storage_s3 import PENDING

    with bucket.explained(f"list {start}{below}"):
        for page in bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=start + below):
            for one in page.get("Contents", ()):
                key = one["Key"].removeprefix(start)
                if not key.startswith((f"{PENDING}/", ".uploads/")) and not key.endswith("/"):
                    yield Found(key, one["Key"], one["Size"], one["ETag"], one["LastModified"].timestamp())
