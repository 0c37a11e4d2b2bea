"""The gRPC server's door: nobody without a key holds calls open, silence is cut short.

A server takes up a few hundred calls at once, and grpc.aio waits for a call's message before any code of ours runs: one
client without a key could hold every call by sending nothing. Here a unary call is served as a stream of one message,
so that the key is asked for first and the message has to come in time, as over HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from services.answers import Refusal
from services.protocol_v2_status import Metadata, code_of, retry_metadata
from services.runtime import LOG

MAX_WATCHERS = 64  # open streams of those who need no key: watchers of health, readers of the schema
MAX_VISITORS = 128  # their calls whose message has not come yet
VISITOR_TIMEOUT_S = 5.0  # for a message of a few bytes
RETRY_AFTER = (b"retry-after", b"10")
_NOT_COUNTED = nullcontext()

Answered = Callable[[str, int], None]  # counts what is refused here, by method and status


class Door(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before every method; `guard` None asks nobody, `open_methods` are for everybody, by their beginning."""

    def __init__(self, guard: Any, open_methods: tuple[str, ...], message_timeout_s: float, answered: Answered) -> None:
        self._guard, self._open_methods, self._timeout_s = guard, open_methods, message_timeout_s
        self._answered = answered
        self._num_here = {True: 0, False: 0}  # of those who need no key: streams, and single calls
        self._doors: dict[str, Any] = {}  # by method; only of methods that there are

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a method behind this door, None where there is no such method."""
        door = self._doors.get(details.method)
        if door is None and (handler := await continuation(details)) is not None:
            is_streamed = handler.response_streaming
            door = (self._streamed if is_streamed else self._single)(handler, details.method)
            self._doors[details.method] = door
        return door

    def _single(self, handler: Any, method: str) -> Any:
        """A method with one answer, to one message."""

        async def answer(_: AsyncIterator[bytes], context: Any) -> Any:
            try:
                with self._let_in(method, is_stream=False):
                    await self._knock(context, method)
                    message = await self._message(context, handler, method)
            except Refusal as refusal:
                return self._refuse(context, method, refusal)
            return _written(handler, await handler.unary_unary(message, context))

        return grpc.stream_unary_rpc_method_handler(answer)

    def _streamed(self, handler: Any, method: str) -> Any:
        """A method with many answers, to one message or to many."""

        async def answers(raw_messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            try:
                with self._let_in(method, is_stream=True):
                    await self._knock(context, method)
                    if handler.request_streaming:
                        stream = handler.stream_stream(_read_all(handler, raw_messages), context)
                    else:
                        stream = handler.unary_stream(await self._message(context, handler, method), context)
                    async for answer in stream:
                        yield _written(handler, answer)
            except Refusal as refusal:
                self._refuse(context, method, refusal)
            except Exception:  # the service edge: gRPC would tell the client what was raised
                LOG.exception("%s failed", method)
                self._refuse(context, method, Refusal(500, "the call failed", method, "an answer", "see the log"))

        return grpc.stream_stream_rpc_method_handler(answers)

    def _is_open(self, method: str) -> bool:
        return method.startswith(self._open_methods)

    def _let_in(self, method: str, is_stream: bool) -> AbstractContextManager[None]:
        return self._counted(method, is_stream) if self._is_open(method) else _NOT_COUNTED

    @contextmanager
    def _counted(self, method: str, is_stream: bool) -> Iterator[None]:
        """Count those who need no key while they are here. Raises Refusal 429 when they are too many."""
        most = MAX_WATCHERS if is_stream else MAX_VISITORS
        if self._num_here[is_stream] >= most:
            expected, got = f"at most {most} open calls without a key", "one more"
            raise Refusal(429, "too many calls are open", method, expected, got, RETRY_AFTER)
        self._num_here[is_stream] += 1
        try:
            yield
        finally:
            self._num_here[is_stream] -= 1

    async def _knock(self, context: Any, method: str) -> None:
        if self._guard is not None and not self._is_open(method):
            await self._guard.knock(header_of(context), address_of(context), method)

    async def _message(self, context: Any, handler: Any, method: str) -> Any:
        """The one message of a call. Raises Refusal 400 where none came, 408 where it came too late."""
        timeout_s = min(self._timeout_s, VISITOR_TIMEOUT_S) if self._is_open(method) else self._timeout_s
        try:  # asyncio says that time is over by raising; a client needs it as an answer
            async with asyncio.timeout(timeout_s):
                raw_message = await context.read()
        except TimeoutError as error:
            expected = f"the whole message within {timeout_s:g} s"
            raise Refusal(408, "the message is too slow", "request", expected, "less of it") from error
        if raw_message is grpc.aio.EOF:
            raise Refusal(400, "no message", "request", "one message", "none")
        return _read(handler, raw_message)

    def _refuse(self, context: Any, method: str, refusal: Refusal) -> bytes:
        self._answered(method, refusal.status)
        return tell(context, refusal)


def tell(context: Any, refusal: Refusal, trailers: Metadata = ()) -> bytes:
    """The refusal as the call's status, and the message that is then not sent.

    `context.abort` would say it by raising, and its exception keeps the call, and the call the exception: a refused
    message of 8 MB stayed until the garbage collector came by.
    """
    words = refusal.in_words()
    context.set_code(code_of(refusal))
    context.set_details(words)
    context.set_trailing_metadata((*trailers, *retry_metadata(refusal, words)))
    return b""


def header_of(context: Any) -> Callable[[str], str]:
    """Reads one entry of a call's metadata, "" where there is none."""
    metadata = context.invocation_metadata() or ()

    def header(wanted: str) -> str:
        return next((str(value) for name, value in metadata if name == wanted), "")

    return header


def address_of(context: Any) -> str:
    """The address in gRPC's `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; what is left of other kinds."""
    return unquote(context.peer().partition(":")[2].rpartition(":")[0]).strip("[]")


def _read(handler: Any, raw_message: bytes) -> Any:
    if handler.request_deserializer is None:
        return raw_message
    try:  # protobuf says that bytes are no message by raising; a client needs it as an answer
        return handler.request_deserializer(raw_message)
    except DecodeError as error:
        raise Refusal(400, "not a message", "request", "a message of this method", "bytes that are none") from error


async def _read_all(handler: Any, raw_messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw_message in raw_messages:
        yield _read(handler, raw_message)


def _written(handler: Any, answer: Any) -> Any:
    return answer if handler.response_serializer is None else handler.response_serializer(answer)
