"""Moves large objects in parts, side by side, both ways; after a kill the next try goes on.

boto3's transfer manager cannot go on after a kill, so these are requests of our own. An upload under way is noted in
the store under `.pending/`, bound to name and content; parts that are there with the right MD5 are not sent again.
A download grows a `.part` file that is bound to the object's ETag. Give the bucket a rule that drops incomplete uploads
after some days: those nobody goes on with cost storage.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from infra.atomic import exclusive, sync_file, sync_folder
from infra.objects import BLOCK_BYTES, LARGE_BYTES, IntegrityError, NotThereError, compare, hash_of, in_threads
from infra.s3_client import PARALLEL_PARTS, Bucket, ConflictError, recorded_sha256

MAX_PARTS = 10_000  # S3's own limit


class Part(NamedTuple):
    """One piece of a large file; `number` counts from 1."""

    number: int
    start: int
    size: int
    md5: str


class Plan(NamedTuple):
    """How a file is cut: depends on its content alone, so every attempt cuts alike."""

    size: int
    sha256: str
    parts: tuple[Part, ...]


class Remote(NamedTuple):
    """A large object in the store, as it was when the download began."""

    name: str
    size: int
    etag: str
    sha256: str


def plan_parts(source: Path) -> Plan:
    """Parts of 16 MiB, or larger where there would be more than 10 000."""
    size = source.stat().st_size
    part_bytes = max(LARGE_BYTES, -(-size // (MAX_PARTS * BLOCK_BYTES)) * BLOCK_BYTES)
    whole, parts = hashlib.sha256(), []
    with source.open("rb") as file:
        for number, start in enumerate(range(0, size, part_bytes), 1):
            data = file.read(part_bytes)
            whole.update(data)
            parts.append(Part(number, start, len(data), _md5(data)))
    return Plan(size, whole.hexdigest(), tuple(parts))


def upload(bucket: Bucket, name: str, source: Path, plan: Plan, notes: str) -> None:
    """Put a large file. `notes` is the folder of the store that remembers uploads under way.

    Raises ConflictError when another process ended this upload.
    """
    note = f"{notes}/{hash_of(f'{name} {plan.sha256}'.encode())}"
    upload_id, there = _under_way(bucket, name, note)
    place: Any = {"Bucket": bucket.name, "Key": name, "UploadId": upload_id or _begin(bucket, name, plan, note)}
    with source.open("rb") as file:
        sent: Any = in_threads(lambda part: _send(bucket, place, file, part, there), plan.parts, PARALLEL_PARTS)
    try:
        with bucket.explained(f"put {name}"):
            bucket.client.complete_multipart_upload(**place, MultipartUpload={"Parts": sent})
    except ConflictError:
        bucket.delete(note)
        raise
    bucket.delete(note)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _begin(bucket: Bucket, name: str, plan: Plan, note: str) -> str:
    with bucket.explained(f"put {name}"):
        begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=name, Metadata={"sha256": plan.sha256})
    data = json.dumps({"name": name, "sha256": plan.sha256, "upload_id": begun["UploadId"]}).encode()
    bucket.put(note, data, hash_of(data))
    return begun["UploadId"]


def _under_way(bucket: Bucket, name: str, note: str) -> tuple[str, dict[int, str]]:
    """The upload that an interrupted attempt left, and the MD5 of its parts; empty when there is none."""
    try:
        answer, data = bucket.fetch(note)
        compare(note, recorded_sha256(answer), hash_of(data))
        upload_id = json.loads(data)["upload_id"]
        with bucket.explained(f"look for parts of {name}"):
            pages = bucket.client.get_paginator("list_parts").paginate(Bucket=bucket.name, Key=name, UploadId=upload_id)
            parts = [part for page in pages for part in page.get("Parts", ())]
    except (NotThereError, ConflictError):
        return "", {}
    return upload_id, {part["PartNumber"]: part["ETag"].strip('"') for part in parts}


def _send(bucket: Bucket, place: Any, file: BinaryIO, part: Part, there: dict[int, str]) -> dict[str, Any]:
    if there.get(part.number) == part.md5:
        return {"PartNumber": part.number, "ETag": f'"{part.md5}"'}
    data = os.pread(file.fileno(), part.size, part.start)
    if _md5(data) != part.md5:
        raise IntegrityError(f"{file.name}: part {part.number} changed while it was put; put it again")
    with bucket.explained(f"put part {part.number} of {place['Key']}"):
        answer = bucket.client.upload_part(**place, PartNumber=part.number, Body=data)
    return {"PartNumber": part.number, "ETag": answer["ETag"]}


def download(bucket: Bucket, remote: Remote, target: Path) -> Path:
    """Fetch a large object; `target` appears whole and verified.

    Raises ConflictError when the object is replaced meanwhile, IntegrityError when the bytes are not those recorded.
    """
    bound = hash_of(f"{remote.etag} {remote.sha256}".encode())[:16]
    with exclusive(target.with_name(f".{target.name}.{bound}.part")) as part:
        path, digest = Path(part.name), hashlib.sha256()
        part.seek(0)
        while block := part.read(BLOCK_BYTES):
            digest.update(block)
        for data in _ranges(bucket, remote, part.tell()):
            part.write(data)
            part.flush()
            digest.update(data)
        sync_file(part)
        if digest.hexdigest() != remote.sha256:
            path.unlink()
        compare(f"s3://{bucket.name}/{remote.name}", remote.sha256, digest.hexdigest())
        path.replace(target)
    sync_folder(target.parent)
    return target


def _ranges(bucket: Bucket, remote: Remote, start: int) -> Iterator[bytes]:
    """The bytes from `start` on, in order, a few ranges ahead of the reader."""

    def fetch(first: int) -> bytes:
        last = min(first + LARGE_BYTES, remote.size) - 1
        return bucket.fetch(remote.name, Range=f"bytes={first}-{last}", IfMatch=remote.etag)[1]

    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        try:
            for first in range(start, remote.size, LARGE_BYTES):
                ahead.append(pool.submit(fetch, first))
                if len(ahead) == PARALLEL_PARTS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
