"""How a ModelInferRequest may be built on the wire, checked before protobuf takes it apart.

Two bytes on the wire are an empty tensor, and eighty in memory: 8 MB of them took 315 MB. So the fields of a message
are counted where they lie, and only what really holds numbers may be large.
"""

from collections.abc import Iterator

from services.answers import Refusal

MAX_FIELDS = 64  # of a request and of each tensor; an honest one has about ten
MAX_TEXTS = 4_096  # elements of BYTES, and numbers sent one by one
MAX_IN_ALL = 2 * MAX_TEXTS  # fields of the whole message: counting millions of them would stop the event loop
MAX_SMALL_BYTES = 65_536  # of a field that is not numbers: names, shapes, parameters
_MODEL_NAME, _INPUTS, _RAW_CONTENTS = 1, 5, 7  # of ModelInferRequest
_CONTENTS = 5  # of InferInputTensor
_FLOATS = (6, 7)  # of InferTensorContents; as large in memory as on the wire
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def check_frame(message: bytes) -> str:
    """The name of the model that is asked for, by which the guard judges before protobuf sees a byte.

    Raises Refusal 400 for what is no message, 413 for one that would be much larger in memory.
    """
    frame, name = _Frame(message), b""
    for field, start, end in frame.fields(0, len(message), MAX_FIELDS, "request"):
        if field == _INPUTS:
            _check_tensor(frame, start, end)
        elif field != _RAW_CONTENTS:
            _check_small(start, end, "request")
        if field == _MODEL_NAME:
            name = message[start:end]  # the last one counts
    return name.decode("utf-8", "replace")


def _check_tensor(frame: "_Frame", first: int, last: int) -> None:
    for field, start, end in frame.fields(first, last, MAX_FIELDS, "inputs"):
        if field != _CONTENTS:
            _check_small(start, end, "inputs")
            continue
        for kind, begin, stop in frame.fields(start, end, MAX_TEXTS, "contents"):
            if kind not in _FLOATS:
                _check_small(begin, stop, "contents")


def _check_small(start: int, end: int, where: str) -> None:
    if end - start > MAX_SMALL_BYTES:
        raise Refusal(413, "a field is too large", where, f"at most {MAX_SMALL_BYTES} bytes", f"{end - start} bytes")


class _Frame:
    """A message, and how many fields were found in it so far."""

    def __init__(self, message: bytes) -> None:
        self._message, self._num_fields = message, 0

    def fields(self, position: int, end: int, most: int, where: str) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field between `position` and `end`."""
        message, num_fields = self._message, 0
        while position < end:
            num_fields += 1
            self._num_fields += 1
            if num_fields > most or self._num_fields > MAX_IN_ALL:
                raise Refusal(413, "too many fields", where, f"at most {most}, {MAX_IN_ALL} in all", "more of them")
            tag, position = _varint(message, position, end)
            kind, start = tag & 7, position
            if kind == _LENGTH:
                length, start = _varint(message, position, end)
                position = start + length
            elif kind == _VARINT:
                _, position = _varint(message, position, end)
            elif kind in (_FIXED64, _FIXED32):
                position += 8 if kind == _FIXED64 else 4
            else:
                raise _not_a_message(message)
            if position > end:
                raise _not_a_message(message)
            yield tag >> 3, start, position


def _varint(message: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position` and where it ends."""
    value = shift = 0
    while position < end and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _not_a_message(message)


def _not_a_message(message: bytes) -> Refusal:
    return Refusal(
        400, "not a message", "request", "a serialised ModelInferRequest", f"{len(message)} bytes that are none"
    )
