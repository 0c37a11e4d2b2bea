"""Object storage through boto3: AWS S3, or any store that speaks its protocol.

SHA-256 travels as object metadata. Conditional puts use `If-None-Match: *`; other large objects move in
parts (`s3_parts`).
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from infra.atomic import write_atomic
from infra.objects import (
    LARGE_BYTES,
    AlreadyThereError,
    NotThereError,
    StorageError,
    Store,
    StoredObject,
    check_key,
    compare,
    hash_file,
    hash_of,
)
from infra.s3_client import NUM_TRIES, Bucket, ConflictError, recorded_sha256
from infra.s3_parts import Remote, download, plan_parts, upload
from infra.settings import Settings

PENDING = ".pending"  # not `.uploads`: SeaweedFS keeps its own things there


class S3Store(Store):
    """Objects in `s3://bucket/prefix`. Safe to use from several threads."""

    def __init__(self, config: Settings, num_attempts: int = 5) -> None:
        bucket, _, prefix = config.store_uri.removeprefix("s3://").strip("/").partition("/")
        if not bucket:
            raise StorageError(f"ROADWORTHY_STORE={config.store_uri}: expected s3://bucket/prefix, got no bucket")
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._start = f"{prefix}/" if prefix else ""
        self._bucket = Bucket(bucket, config, num_attempts)

    def put(self, key: str, source: Path, *, if_absent: bool = False) -> StoredObject:
        if source.stat().st_size <= LARGE_BYTES:
            return self.put_bytes(key, source.read_bytes(), if_absent=if_absent)
        if if_absent:
            return self._put_large_if_absent(key, source)
        name, plan = self._name(key), plan_parts(source)
        stored = StoredObject(key, plan.size, plan.sha256)
        for _ in range(NUM_TRIES):
            try:
                upload(self._bucket, name, source, plan, self._start + PENDING)
                return stored
            except ConflictError:  # another process ended this very upload
                if self.exists(key) and self.stat(key) == stored:
                    return stored
        raise self._busy(key)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        return self._put_at_once(StoredObject(key, len(data), hash_of(data)), BytesIO(data), if_absent)

    def get(self, key: str, target: Path) -> Path:
        name = self._name(key)
        for _ in range(NUM_TRIES):
            answer, data = self._bucket.fetch(name)
            sha256, size = recorded_sha256(answer), answer["ContentLength"]
            if size <= LARGE_BYTES:
                compare(f"{self.uri}: {key}", sha256, hash_of(data))
                return write_atomic(target, data)
            try:
                return download(self._bucket, Remote(name, size, answer["ETag"], sha256), target)
            except ConflictError:
                continue  # replaced while it was read: begin with the new one
        raise self._busy(key)

    def get_bytes(self, key: str) -> bytes:
        answer, data = self._bucket.fetch(self._name(key), max_bytes=1 << 40)
        compare(f"{self.uri}: {key}", recorded_sha256(answer), hash_of(data))
        return data

    def stat(self, key: str) -> StoredObject:
        name = self._name(key)
        try:
            with self._bucket.explained(f"look at {name}"):
                answer = self._bucket.client.head_object(Bucket=self._bucket.name, Key=name)
        except NotThereError:
            self._bucket.need()
            raise
        return StoredObject(key, answer["ContentLength"], recorded_sha256(answer))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        start = self._name(prefix) + "/" if prefix else self._start
        with self._bucket.explained(f"list {start}"):
            pages = self._bucket.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket.name, Prefix=start
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._start)
                    if not key.startswith(f"{PENDING}/") and not key.endswith("/"):
                        yield StoredObject(key, found["Size"], "")

    def delete(self, key: str) -> None:
        self._bucket.delete(self._name(key))

    def _name(self, key: str) -> str:
        return self._start + check_key(key)

    def _put_large_if_absent(self, key: str, source: Path) -> StoredObject:
        """One request, not parts: SeaweedFS lets two conditional uploads in parts win, a single put only one."""
        stored = StoredObject(key, source.stat().st_size, hash_file(source))
        if self.exists(key):
            return self._equal_or_refuse(stored)
        with source.open("rb") as file:
            put = self._put_at_once(stored, file, if_absent=True)
        compare(f"{source} while it was put", stored.sha256, hash_file(source))
        return put

    def _put_at_once(self, stored: StoredObject, body: BinaryIO, if_absent: bool) -> StoredObject:
        for _ in range(NUM_TRIES):
            body.seek(0)
            try:
                self._bucket.put(self._name(stored.key), body, stored.sha256, if_absent)
                return stored
            except ConflictError:
                if self.exists(stored.key):
                    return self._equal_or_refuse(stored)
        raise self._busy(stored.key)

    def _equal_or_refuse(self, wanted: StoredObject) -> StoredObject:
        there = self.stat(wanted.key)
        if there != wanted:
            raise AlreadyThereError(f"{self.uri}: {wanted.key}: expected no object, got one with other content")
        return there

    def _busy(self, key: str) -> StorageError:
        return StorageError(f"{self.uri}: {key}: others keep writing this key; try again")
