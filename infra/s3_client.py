"""Reaches a bucket through boto3, with errors that say what, where and what to do.

There is never a secret in them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from infra.objects import LARGE_BYTES, NUM_THREADS, NotThereError, StorageError
from infra.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARALLEL_PARTS = 4  # of one large object, 16 MiB of memory each
NUM_TRIES = 3  # of what the SDK does not repeat by itself: bodies cut off, objects replaced meanwhile
MISSING = {"NoSuchKey", "NotFound", "404"}
CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload", "412", "409"}
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "403"}
CREDENTIALS = "check ROADWORTHY_S3_ACCESS_KEY and ROADWORTHY_S3_SECRET_KEY"


class ConflictError(Exception):
    """A condition of the request does not hold, or its multipart upload is over."""


def _client(config: Settings, num_attempts: int) -> "S3Client":
    import boto3  # not at the top: a third of a second
    from botocore.config import Config

    access, secret = config.s3_access_key, config.s3_secret_key
    checksums: Any = config.s3_checksums
    options = Config(
        retries={"mode": "standard", "total_max_attempts": num_attempts},
        connect_timeout=5,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=2 * NUM_THREADS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3={"addressing_style": "path" if config.s3_endpoint else "auto"},
    )
    return boto3.client(
        "s3",
        endpoint_url=config.s3_endpoint or None,
        region_name=config.s3_region,
        aws_access_key_id=access.get_secret_value() if access else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=options,
    )


class Bucket:
    """One bucket of one endpoint. Safe to use from several threads. `names` are whole object names."""

    def __init__(self, name: str, config: Settings, num_attempts: int) -> None:
        self.name = name
        self.endpoint = config.s3_endpoint or f"AWS {config.s3_region}"
        self._seen = False
        with self.explained("connect"):
            self.client = _client(config, num_attempts)

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turn boto's errors into NotThereError, ConflictError or StorageError."""
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.name} at {self.endpoint}: {what}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in MISSING:
                raise NotThereError(f"{where}: expected an object, got none") from None
            if code in CONFLICT:
                raise ConflictError(code) from None
            if code in REFUSED:
                raise StorageError(f"{where}: refused ({code}); {CREDENTIALS}, and what they may do") from error
            if code == "NoSuchBucket":
                raise StorageError(f"{where}: the bucket is missing; create it or correct ROADWORTHY_STORE") from error
            raise StorageError(f"{where}: the store answered {code}; try again, or look at its log") from error
        except BotoCoreError as error:
            raise StorageError(f"{where}: {_advice(error)}") from error
        except ValueError as error:
            raise StorageError(f"{where}: {error}; correct ROADWORTHY_S3_ENDPOINT") from error

    def need(self) -> None:
        """S3 answers HEAD for a missing object as it does in a missing bucket: tell them apart, once."""
        if self._seen:
            return
        try:
            with self.explained("look for the bucket"):
                self.client.head_bucket(Bucket=self.name)
        except NotThereError:
            raise StorageError(
                f"s3://{self.name} at {self.endpoint}: the bucket is missing; create it or correct ROADWORTHY_STORE"
            ) from None
        self._seen = True

    def put(self, name: str, body: bytes | BinaryIO, sha256: str, if_absent: bool = False) -> None:
        """Raises ConflictError, with `if_absent`, when there is such an object."""
        condition: Any = {"IfNoneMatch": "*"} if if_absent else {}
        with self.explained(f"put {name}"):
            self.client.put_object(Bucket=self.name, Key=name, Body=body, Metadata={"sha256": sha256}, **condition)

    def fetch(self, name: str, max_bytes: int = LARGE_BYTES, **condition: Any) -> tuple[dict[str, Any], bytes]:
        """Headers and content; no content when there is more than `max_bytes`. Raises NotThereError, ConflictError."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for attempt in range(1, NUM_TRIES + 1):
            with self.explained(f"get {name}"):
                answer: Any = self.client.get_object(Bucket=self.name, Key=name, **condition)
                with answer["Body"] as body:
                    if answer["ContentLength"] > max_bytes:
                        return answer, b""
                    try:
                        return answer, body.read()
                    except (HTTPClientError, IncompleteReadError):
                        if attempt == NUM_TRIES:
                            raise
        raise AssertionError("the last attempt returns or raises")

    def delete(self, name: str) -> None:
        """None there is as good."""
        with self.explained(f"delete {name}"):
            self.client.delete_object(Bucket=self.name, Key=name)


def recorded_sha256(answer: Any) -> str:
    """From the headers of an object; empty when it was not put by us."""
    return str(answer["Metadata"].get("sha256", ""))


def _advice(error: Exception) -> str:
    from botocore.exceptions import ConnectionError, HTTPClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"no credentials found; {CREDENTIALS}"
    if isinstance(error, ConnectionError | HTTPClientError):
        return f"cannot be reached ({type(error).__name__}); is it running? check ROADWORTHY_S3_ENDPOINT"
    return f"{type(error).__name__}: {error}"
