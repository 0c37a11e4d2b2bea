"""Refusals as gRPC says them: a status code, one sentence, and when to come again."""

import grpc

from services.answers import Refusal

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"

Metadata = tuple[tuple[str, str | bytes], ...]


def code_of(refusal: Refusal) -> grpc.StatusCode:
    """The status code that says what this HTTP status says; INTERNAL for what has none."""
    return _CODES.get(refusal.status, grpc.StatusCode.INTERNAL)


def retry_metadata(refusal: Refusal, words: str) -> Metadata:
    """Trailing metadata for a refusal that says when to come again; empty for every other.

    `grpc-retry-pushback-ms` is what gRPC's own retry policy obeys (gRFC A6); `grpc-status-details-bin` carries a
    google.rpc.RetryInfo, which is what clients' libraries look for (AIP-194).
    """
    raw_seconds = next((value for name, value in refusal.headers if name == b"retry-after"), b"")
    if not raw_seconds.isdigit():
        return ()
    seconds = int(raw_seconds)
    return (
        ("grpc-retry-pushback-ms", str(1000 * seconds)),
        ("grpc-status-details-bin", _status(code_of(refusal).value[0], words, seconds)),
    )


def _status(code: int, words: str, seconds: int) -> bytes:
    """A google.rpc.Status {code = 1, message = 2, details = 3} with one RetryInfo {retry_delay = 1 {seconds = 1}}.

    Written out because its generated classes would be one more dependency for these three lines.
    """
    retry_info = _field(1, b"\x08" + _varint(seconds))
    any_of = _field(1, _RETRY_INFO) + _field(2, retry_info)
    return b"\x08" + _varint(code) + _field(2, words.encode()) + _field(3, any_of)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
