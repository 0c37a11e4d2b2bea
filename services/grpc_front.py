"""Open Inference Protocol v2 over gRPC: in the data plane's loop, behind the same guard.

Handlers get a message as the bytes that came: its size is known before it is taken apart, garbage is the caller's error
instead of ours, and generated stubs would only stand in between. Health and reflection are open to anybody, as are
/livez and /readyz; they tell no more than the protocol's own definition and which names are served.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection

from infra.settings import ServiceSettings
from models.artifact.checks import InputError
from services import inference_pb2 as messages
from services.answers import ANYBODY, Caller, Refusal, sortable_id
from services.grpc_door import Door, address_of, header_of, tell
from services.observe import Metrics
from services.protocol_v2_frame import MAX_SMALL_BYTES, check_frame
from services.protocol_v2_health import SERVICE as HEALTH_SERVICE
from services.protocol_v2_health import Health
from services.protocol_v2_infer import Capture, Inference, refused
from services.protocol_v2_messages import QUESTIONS, parsed, read_tensors, response_of
from services.protocol_v2_status import Metadata
from services.protocol_v2_tensors import Reader
from services.runtime import LOG
from services.tracing import Tracer
from services.tracing_grpc import TraceCalls

if TYPE_CHECKING:
    from services.host import Host

SERVICE = "inference.GRPCInferenceService"
DEFAULT_MAX_BYTES = 8_000_000  # of a message, where nothing is served yet
ENVELOPE_BYTES = 65_536  # names, shapes and parameters around the tensors
MAX_CALLS = 256  # taken up at once; each may hold a whole message, and one more is RESOURCE_EXHAUSTED
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.http2.bdp_probe", 0),  # a call that waits to be taken up holds 64 kB of its message, and no more
)

# What needs no key, as /livez and /readyz need none.
_OPEN_QUESTIONS = (name for name, (_, is_open, _) in QUESTIONS.items() if is_open)
OPEN_METHODS = (f"/{HEALTH_SERVICE}/", "/grpc.reflection.", *(f"/{SERVICE}/{name}" for name in _OPEN_QUESTIONS))

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcFront:
    """The gRPC server over a host; `guard` None lets everybody in, `capture` None captures nothing."""

    def __init__(
        self,
        host: "Host",
        guard: Any,
        capture: Capture | None,
        metrics: Metrics,
        settings: ServiceSettings,
        tracer: Tracer | None = None,
    ) -> None:
        self._host, self._guard, self._metrics, self._settings = host, guard, metrics, settings
        self._inference = Inference("grpc", metrics, capture)
        self._health = Health(host, SERVICE)
        self._watchers = (TraceCalls(tracer),) if tracer else ()
        self._server: Any = None

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port, which was free to choose where it was 0; raises OSError."""
        options = (*OPTIONS, ("grpc.max_receive_message_length", self._max_bytes() + ENVELOPE_BYTES))
        host, _, port_text = address.rpartition(":")
        if ":" in host.strip("[]"):
            address = f"[{host.strip('[]')}]:{port_text}"  # IPv6
        door = Door(self._guard, OPEN_METHODS, self._settings.body_timeout_s, self._metrics.answered)
        max_calls = min(MAX_CALLS, self._settings.max_connections)
        server = grpc.aio.server(
            interceptors=(*self._watchers, door), options=options, maximum_concurrent_rpcs=max_calls
        )
        server.add_generic_rpc_handlers((self._handlers(), self._health.handlers()))
        reflection.enable_server_reflection((SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
        credentials = _credentials(self._settings)
        try:  # gRPC raises RuntimeError for every address that it cannot listen on
            port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        except RuntimeError as error:
            await server.stop(None)  # one that is only dropped keeps the process from ending
            raise OSError(f"gRPC: expected an address to listen on, got {address}: {error}") from error
        await server.start()
        self._server = server
        return int(port)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, and let those under way end within `grace_s`."""
        self._health.stop()
        if self._server is not None:
            await self._server.stop(grace_s)

    def changed(self) -> None:
        """Tell the watchers of health at once that something else is served; else they hear it within a second."""
        self._health.changed()

    def _max_bytes(self) -> int:
        """The largest request of any model; each model's own limit is checked when it is asked."""
        pairs = ((name, version) for name, versions in self._host.names().items() for version in versions)
        served = (self._host.find(name, version) for name, version in pairs)
        return max((each.release.max_body_bytes for each in served), default=DEFAULT_MAX_BYTES)

    def _handlers(self) -> Any:
        methods = {name: grpc.unary_unary_rpc_method_handler(self._informing(name)) for name in QUESTIONS}
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._model_infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._model_stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _informing(self, name: str) -> Handler:
        """The handler of a method that tells something about the server or a model."""

        async def handle(raw_request: bytes, context: Any) -> bytes:
            return await self._settled(context, name, [], self._inform(name, raw_request, context))

        return handle

    async def _model_infer(self, raw_request: bytes, context: Any) -> bytes:
        prediction_id = sortable_id()
        trailers = [("x-prediction-id", prediction_id)]
        load = self._metrics.load
        load.in_flight += 1  # so that calls at the same time may share one of ONNX Runtime
        try:
            return await self._settled(
                context, "ModelInfer", trailers, self._infer(raw_request, context, prediction_id, trailers)
            )
        finally:
            load.in_flight -= 1

    async def _model_stream_infer(self, raw_requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """One answer to each message, in order; a refused one is answered in words, and the stream goes on."""
        async for raw_request in raw_requests:
            answer = messages.ModelStreamInferResponse()
            status = 200
            try:
                answer.infer_response.CopyFrom(await self._infer(raw_request, context, sortable_id(), []))
            except Refusal as refusal:
                if (status := refusal.status) in (401, 403):
                    self._refuse(context, "ModelStreamInfer", refusal)
                    return
                answer.error_message = refusal.in_words()
            self._metrics.answered(f"/{SERVICE}/ModelStreamInfer", status)
            yield answer.SerializeToString()

    async def _settled(
        self, context: Any, method: str, trailers: list[tuple[str, str]], answering: Awaitable[Message]
    ) -> bytes:
        """The answer's bytes, or what stands in its place, told in the call's status; `trailers` grow meanwhile."""
        try:
            answer = await answering
        except Refusal as refusal:
            return self._refuse(context, method, refusal, tuple(trailers))
        except Exception:  # the service edge: gRPC would tell the client what was raised
            LOG.exception("%s failed: %s", method, trailers)
            failure = Refusal(500, "the call failed", method, "an answer", "see the log")
            return self._refuse(context, method, failure, tuple(trailers))
        if trailers:
            context.set_trailing_metadata(tuple(trailers))
        self._metrics.answered(f"/{SERVICE}/{method}", 200)
        raw_answer: bytes = answer.SerializeToString()
        return raw_answer

    async def _inform(self, name: str, raw_request: bytes, context: Any) -> Message:
        question, is_open, answer = QUESTIONS[name]
        if len(raw_request) > MAX_SMALL_BYTES:
            expected = f"at most {MAX_SMALL_BYTES} bytes"
            raise Refusal(413, "the request is too large", name, expected, f"{len(raw_request)} bytes")
        request = parsed(question, raw_request)
        caller = ANYBODY
        if not is_open:
            caller = await self._admit(context, "read", getattr(request, "name", ""), len(raw_request), name)
        return answer(self._host, request, caller.tenant)

    async def _infer(
        self, raw_request: bytes, context: Any, prediction_id: str, trailers: list[tuple[str, str]]
    ) -> messages.ModelInferResponse:
        model = check_frame(raw_request)
        caller = await self._admit(context, "predict", model, len(raw_request), "ModelInfer")
        request = parsed(messages.ModelInferRequest, raw_request)
        if request.model_name != model:
            raise Refusal(400, "not a message", "model_name", "one name, as text", "another one behind it")
        served = self._host.find(request.model_name, request.model_version, caller.tenant)
        trailers.append(("x-model-digest", served.release.parcel_digest))
        if len(raw_request) > served.release.max_body_bytes + ENVELOPE_BYTES:
            expected = f"at most {served.release.max_body_bytes} bytes; send fewer rows"
            raise Refusal(413, "the request is too large", "ModelInfer", expected, f"{len(raw_request)} bytes")
        try:
            tensors = read_tensors(request, Reader(served.manifest))
            wanted = [output.name for output in request.outputs]
            outputs = await self._inference.outputs(served, prediction_id, caller, tensors, wanted)
        except InputError as error:
            raise refused(error) from error
        return response_of(served.release, request, prediction_id, outputs)

    async def _admit(self, context: Any, verb: str, model: str, num_bytes: int, method: str) -> Caller:
        header = header_of(context)
        if self._guard is None:
            return Caller(tenant=header("x-tenant"))
        route = f"/{SERVICE}/{method}"
        caller: Caller = await self._guard.admit(header, verb, model, address_of(context), num_bytes, route)
        return caller

    def _refuse(self, context: Any, method: str, refusal: Refusal, trailers: Metadata = ()) -> bytes:
        self._metrics.answered(f"/{SERVICE}/{method}", refusal.status)
        return tell(context, refusal, trailers)


def _credentials(settings: ServiceSettings) -> Any:
    """TLS with the certificate that the data plane shows; None where none is set."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
    return grpc.ssl_server_credentials([pair])
