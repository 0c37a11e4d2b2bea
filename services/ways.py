"""Answers `/route`: the quickest way over the network now, and its alternatives.

The model foresees the travel time of every edge from the tensors that came, as `/predict` does; the ways are searched
over them by `models.artifact.routing`, which is only imported where somebody asks for one.
"""

import asyncio
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.wire import Request
from services.runtime import Served

MAX_ALTERNATIVES = 5
_NUM_NAMED = 20
_EXPECTED = '{"data": {"<input>": …}, "from": place, "to": place, "depart": "08:15", "alternatives": 2}'


class Question(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """The body: the tensors of one sample as for `/predict`, two places, when to leave, how many ways besides."""

    data: msgspec.Raw
    source: str
    target: str
    depart: str | None = None
    alternatives: int = 0


_DECODER = msgspec.json.Decoder(Question)
_GRAPHS: WeakKeyDictionary[Served, Any] = WeakKeyDictionary()


def read(served: Served, raw_body: bytes) -> tuple[Question, Request]:
    """The question and its checked tensors; raises InputError."""
    if served.manifest.network is None:
        expected = "a model of the task route, which has a road network"
        raise InputError(
            "this model plans no ways", "model", expected, f"{served.model_version}: {served.manifest.task}"
        )
    try:  # msgspec says what is wrong with JSON by raising; a client needs it as an InputError
        question = _DECODER.decode(raw_body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("not a question for a way", "body", _EXPECTED, str(error)[:200]) from error
    if not 0 <= question.alternatives <= MAX_ALTERNATIVES:
        raise InputError("too many ways", "alternatives", f"0 to {MAX_ALTERNATIVES}", str(question.alternatives)[:40])
    _check_places(served.manifest, question)
    request = served.reader.read(b'{"data":%b}' % bytes(question.data))
    if request.num_rows != 1:
        raise InputError("too many rows", "data", "one row", str(request.num_rows))
    return question, request


async def answer(
    served: Served, question: Question, request: Request, outputs: dict[str, NDArray[np.float32]], prediction_id: str
) -> bytes:
    """The ways as JSON, the quickest first; raises InputError where there is none."""
    (edge_times_s,) = outputs.values()  # [1, H, E]
    depart_s = _depart_s(served.manifest, request, question.depart)
    found = await asyncio.to_thread(_ways, served, edge_times_s[0], question, depart_s)
    best, *others = found
    return msgspec.json.encode({
        **best,
        "alternatives": others,
        "depart_s": depart_s,
        "model_version": served.model_version,
        "prediction_id": prediction_id,
    })  # fmt: skip


def _ways(
    served: Served, edge_times_s: NDArray[np.float32], question: Question, depart_s: float
) -> list[dict[str, Any]]:
    from models.artifact import routing  # and with it networkx

    manifest = served.manifest
    if served not in _GRAPHS:
        assert manifest.network is not None
        _GRAPHS[served] = routing.open_network(manifest.network)
    places = question.source, question.target
    slot_s = manifest.cadence_min * 60
    try:  # the search says that there is no way by raising; a client needs it as an InputError
        found = routing.ways(_GRAPHS[served], edge_times_s, slot_s, *places, depart_s, question.alternatives)
    except routing.RoutingError as error:
        raise _no_way(error, question) from error
    rounded = (
        replace(way, travel_time_s=round(way.travel_time_s, 3), length_m=round(way.length_m, 3)) for way in found
    )
    return [asdict(way) for way in rounded]


def _depart_s(manifest: Manifest, request: Request, depart: str | None) -> float:
    """Seconds from now, which is the end of the slot that was sent, to the departure; raises InputError."""
    if depart is None:
        return 0.0
    from models.artifact import routing

    if "slot" not in request.inputs:
        raise InputError(
            "no time of day is known", "depart", "none: this model is not told the time", repr(depart[:60])
        )
    slot, at = int(request.inputs["slot"].flat[0]), depart
    slot_s, output = manifest.cadence_min * 60, manifest.output
    assert output is not None
    try:  # both say by raising that it is no time, or none that is foreseen
        if "T" in depart or "-" in depart:
            time = datetime.fromisoformat(depart)
            _check_day(request, time, slot, slot_s)
            at = time.strftime("%H:%M:%S")
        return routing.depart_after(slot, slot_s, output.shape[0], at)
    except InputError:
        raise
    except routing.RoutingError as error:
        raise _no_way(error, None) from error
    except ValueError as error:
        raise InputError("not a time", "depart", "08:15, or ISO 8601", repr(depart[:60])) from error


def _check_day(request: Request, time: datetime, slot: int, slot_s: float) -> None:
    """A date must be of the weekday that was sent, or of the next where the departure is behind midnight."""
    if "weekday" not in request.inputs:
        return
    is_next = time.hour * 3600 + time.minute * 60 + time.second < (slot + 1) * slot_s
    expected = (int(request.inputs["weekday"].flat[0]) + is_next) % 7
    if time.weekday() != expected:
        raise InputError(
            "another day", "depart", f"weekday {expected}, by the data's", f"{time.date()}, {time.weekday()}"
        )


def _check_places(manifest: Manifest, question: Question) -> None:
    network = manifest.network
    assert network is not None
    nodes = sorted({*network.sources, *network.targets})
    for where, place in (("from", question.source), ("to", question.target)):
        if place not in nodes and place not in network.edges:
            more = f" and {len(nodes) - _NUM_NAMED} more" if len(nodes) > _NUM_NAMED else ""
            expected = f"a node, one of {', '.join(nodes[:_NUM_NAMED])}{more}, or an edge"
            raise InputError("unknown place", where, expected, repr(place[:60]))


def _no_way(error: Exception, question: Question | None) -> InputError:
    """`where: expected this, got that` as an InputError."""
    where, _, rest = str(error).partition(": ")
    expected, _, got = rest.removeprefix("expected ").partition(", got ")
    places = f"{question.source!r} to {question.target!r}" if question else "another"
    return InputError("no way", where[:200], expected or "another question", got or places)
