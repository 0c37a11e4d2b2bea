"""Predicts and explains over HTTP with a body as people send it: JSON, a picture, a table."""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qsl

from models.artifact import decode, intervals
from models.artifact.wire import InputError, Request
from services import ways
from services.answers import (
    ANYBODY,
    CALLER,
    Caller,
    Headers,
    Receive,
    Refusal,
    Scope,
    header,
    read_body,
    sortable_id,
)  # fmt: skip
from services.batcher import check_wait
from services.explain import explain
from services.host import Host
from services.observe import Metrics
from services.protocol_v2_infer import Capture, Outputs
from services.runtime import LOG, Served
from services.schemas import WITH

ARRIVED = "roadworthy.arrived"  # in the scope: when the server read the head, by time.perf_counter
NOT_JSON = "not JSON"  # what `wire` calls a body that no JSON parser takes
PROTOCOL = "rest"
JSON = (b"content-type", b"application/json")
# What most requests say, so that they are not looked at any closer.
_PLAIN_TYPES = frozenset({b"application/json", b"", b"application/x-www-form-urlencoded"})


class Predictions:
    """The two verbs of a model; `answered` is what the data plane then sends."""

    def __init__(
        self, host: Host, metrics: Metrics, capture: Capture | None = None, body_timeout_s: float | None = None
    ) -> None:
        self._host, self._metrics, self._capture, self._body_timeout_s = host, metrics, capture, body_timeout_s

    async def predict(self, scope: Scope, receive: Receive, model: str, version: str, headers: Headers) -> bytes | None:
        """The answer as JSON, None when the client went away; fills `headers`; raises Refusal."""
        prediction_id = _named(headers)
        served = self._found(scope, model, version, headers)
        if (raw_body := await self._body(scope, receive, served)) is None:
            return None
        started = time.perf_counter()
        try:
            wishes = _wishes(scope, served) if scope["query_string"] else ()
            request = await _request(scope, served, raw_body)
            outputs = await served.infer(request.inputs)
            more = intervals.beside(served.manifest, outputs["forecast"], wishes) if wishes else None
            body = served.writer.body(outputs, request.is_list, prediction_id, more)
        except InputError as error:
            raise _unfit(error) from error
        except Refusal:
            raise
        except Exception as error:  # the service edge: a client learns the id, the log the rest
            raise _failed("prediction", prediction_id) from error
        headers.append(JSON)
        self._told(scope, served, prediction_id, started, request, outputs)
        return body

    async def explain(self, scope: Scope, receive: Receive, model: str, version: str, headers: Headers) -> bytes | None:
        """The explanation in the form that was asked for; else as `predict`."""
        prediction_id = _named(headers)
        served = self._found(scope, model, version, headers)
        if (raw_body := await self._body(scope, receive, served)) is None:
            return None
        try:
            content_type, body = await explain(served, await _request(scope, served, raw_body), _query(scope))
        except InputError as error:
            raise _unfit(error) from error
        except Refusal:
            raise
        except Exception as error:  # the service edge: as above
            raise _failed("explanation", prediction_id) from error
        headers.append((b"content-type", content_type.encode()))
        return body

    async def route(self, scope: Scope, receive: Receive, model: str, version: str, headers: Headers) -> bytes | None:
        """The quickest way and its alternatives; else as `predict`."""
        prediction_id = _named(headers)
        served = self._found(scope, model, version, headers)
        if (raw_body := await self._body(scope, receive, served, is_route=True)) is None:
            return None
        started = time.perf_counter()
        try:
            question, request = ways.read(served, raw_body)
            outputs = await served.infer(request.inputs)
            body = await ways.answer(served, question, request, outputs, prediction_id)
        except InputError as error:
            raise _unfit(error) from error
        except Refusal:
            raise
        except Exception as error:  # the service edge: as above
            raise _failed("search for a way", prediction_id) from error
        headers.append(JSON)
        self._told(scope, served, prediction_id, started, request, outputs)
        return body

    def _found(self, scope: Scope, model: str, version: str, headers: Headers) -> Served:
        arrived = scope.get(ARRIVED)
        if arrived is not None:
            check_wait(self._metrics.load, time.perf_counter() - arrived, self._host.deadline_s)
        caller: Caller | None = scope.get(CALLER)
        # What a header says counts only where nobody is asked who he is.
        tenant = caller.tenant if caller else header(scope, b"x-tenant").decode("latin-1")
        served = self._host.find(model, version, tenant)
        headers.append((b"x-model-digest", served.model_digest))
        return served

    def _told(
        self, scope: Scope, served: Served, prediction_id: str, started: float, request: Request, outputs: Outputs
    ) -> None:
        """Count an answer and offer it for capture."""
        self._metrics.predicted(request.num_rows, time.perf_counter() - started, served.name, PROTOCOL)
        if self._capture is not None:
            caller: Caller = scope.get(CALLER, ANYBODY)
            self._capture.offer(served, prediction_id, caller, PROTOCOL, request.inputs, outputs)

    async def _body(self, scope: Scope, receive: Receive, served: Served, is_route: bool = False) -> bytes | None:
        """The body, unless the head already says that it cannot be one."""
        if scope["method"] != "POST":
            raise Refusal(405, "wrong method", scope["path"], "POST", scope["method"], (b"allow", b"POST"))
        content_type = header(scope, b"content-type")
        if content_type not in _PLAIN_TYPES and not _is_accepted(served, content_type.decode("latin-1"), is_route):
            kinds = decode.JSON_TYPES[:1] if is_route else decode.content_types(served.manifest)
            expected = " or ".join(kinds)
            got = decode.media_type(content_type.decode("latin-1"))[:200]
            raise Refusal(415, "wrong content type", "content-type", expected, got)
        encoding = header(scope, b"content-encoding").lower()
        if encoding not in (b"", b"identity"):
            raise Refusal(415, "encoded body", "content-encoding", "identity", encoding.decode("latin-1")[:200])
        return await read_body(scope, receive, served.release.max_body_bytes, self._body_timeout_s)


def _named(headers: Headers) -> str:
    """A new prediction's id, in its headers before anything can go wrong."""
    prediction_id = sortable_id()
    headers.append((b"x-prediction-id", prediction_id.encode()))
    return prediction_id


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def _wishes(scope: Scope, served: Served) -> tuple[str, ...]:
    """What the query asks for beside the prediction; raises InputError, so that no wish is passed over."""
    query = _query(scope)
    if unknown := sorted(query.keys() - {WITH}):
        raise InputError("unknown parameter", "query", f"`{WITH}`", repr(unknown[0][:60]))
    wishes = tuple(dict.fromkeys(wish.strip() for wish in query.get(WITH, "").split(",") if wish.strip()))
    intervals.check_wishes(served.manifest, wishes, f"query, {WITH}")
    return wishes


async def _request(scope: Scope, served: Served, raw_body: bytes) -> Request:
    content_type = header(scope, b"content-type")
    if content_type in _PLAIN_TYPES:
        return served.reader.read(raw_body)
    text = content_type.decode("latin-1")
    kind = decode.media_type(text)
    if kind in decode.JSON_TYPES or kind.endswith("+json"):
        return served.reader.read(raw_body)
    # A table or a picture may take a third of a second: not on the event loop.
    return await asyncio.to_thread(decode.decode, served.manifest, raw_body, text)


def _is_accepted(served: Served, content_type: str, is_route: bool) -> bool:
    if is_route:
        return decode.media_type(content_type) in decode.JSON_TYPES
    return decode.is_accepted(served.manifest, content_type)


def _unfit(error: InputError) -> Refusal:
    fields: dict[str, Any] = error.as_dict()
    return Refusal(400 if error.what == NOT_JSON else 422, **fields)


def _failed(what: str, prediction_id: str) -> Refusal:
    LOG.exception("%s %s failed", what, prediction_id)
    return Refusal(500, f"the {what} failed", "model", "an answer", f"see the log, {prediction_id}")
