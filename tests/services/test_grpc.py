"""The gRPC front through a real channel: equal bytes, health, reflection, statuses, TLS, and a fuzz of its messages."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from numpy.typing import NDArray

from infra.settings import ServiceSettings
from services import inference_pb2 as messages
from services.answers import Caller, Refusal
from services.grpc_front import SERVICE, GrpcFront
from services.host import Host
from services.observe import Metrics

ROOT = Path(__file__).parents[2]
TIME = b"2024-05-31T17:45:00"
X = np.arange(24, dtype=np.float32).reshape(2, 4, 3, 1)
LENGTH = (len(TIME)).to_bytes(4, "little")
BOTH_TIMES = (LENGTH + TIME) * 2

Call = Callable[..., Awaitable[Any]]
Answers = {
    "ModelInfer": messages.ModelInferResponse, "ModelMetadata": messages.ModelMetadataResponse,
    "ModelReady": messages.ModelReadyResponse, "ServerReady": messages.ServerReadyResponse,
    "ServerLive": messages.ServerLiveResponse, "ServerMetadata": messages.ServerMetadataResponse,
    "RepositoryIndex": messages.RepositoryIndexResponse,
}  # fmt: skip


@pytest.fixture
def host(served_folder: Callable[[str], Path]) -> Host:
    """The real host over a forecast parcel."""
    host = Host(served_folder("forecast"), ServiceSettings(signatures="off"))
    host.load()
    return host


@asynccontextmanager
async def channel_to(host: Host, guard: Any = None) -> AsyncIterator[tuple[GrpcFront, grpc.aio.Channel]]:
    front = GrpcFront(host, guard, None, Metrics(), ServiceSettings())
    port = await front.start("127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield front, channel
    finally:
        await front.stop(0)


def asked(host: Host, method: str, request: Any, guard: Any = None) -> Any:
    """The answer to one call; raises grpc.aio.AioRpcError."""

    async def ask() -> Any:
        async with channel_to(host, guard) as (_, channel):
            call = channel.unary_unary(f"/{SERVICE}/{method}")
            raw = request if isinstance(request, bytes) else request.SerializeToString()
            return Answers[method].FromString(await call(raw, metadata=(("x-tenant", "t"),)))

    return asyncio.run(ask())


def refused(host: Host, method: str, request: Any, guard: Any = None) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asked(host, method, request, guard)
    return caught.value


def raw_request(**fields: Any) -> Any:
    request = messages.ModelInferRequest(model_name="tiny", id="mine", **fields)
    request.inputs.add(name="x", datatype="FP32", shape=X.shape)
    request.inputs.add(name="time", datatype="BYTES", shape=[2])
    request.raw_input_contents.extend([X.tobytes(), BOTH_TIMES])
    return request


def typed_request() -> Any:
    request = messages.ModelInferRequest(model_name="tiny", model_version="3")
    x = request.inputs.add(name="x", datatype="FP32", shape=X.shape)
    x.contents.fp32_contents.extend(X.ravel())
    clock = request.inputs.add(name="clock", datatype="INT64", shape=[2, 2])
    clock.contents.int64_contents.extend([71, 4, 71, 4])
    return request


def expected(host: Host) -> NDArray[np.float32]:
    """What the predictor itself says."""
    inputs = {"x": X, "mask": np.ones_like(X), "clock": np.array([[71, 4]] * 2)}
    assert host.served
    return host.served.predictor.predict(inputs)


def test_the_messages_are_made_from_the_proto(tmp_path: Path) -> None:
    command = ["-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, *command, "services/inference.proto"], cwd=ROOT, check=True)
    for name in ("inference_pb2.py", "inference_pb2.pyi"):
        assert (tmp_path / "services" / name).read_text() == (ROOT / "services" / name).read_text()


def test_raw_and_typed_requests_give_the_predictors_own_bytes(host: Host) -> None:
    raw, typed = asked(host, "ModelInfer", raw_request()), asked(host, "ModelInfer", typed_request())
    assert raw.raw_output_contents[0] == expected(host).tobytes()
    assert np.array(typed.outputs[0].contents.fp32_contents, np.float32).tobytes() == expected(host).tobytes()
    assert (raw.id, raw.model_name, raw.model_version, list(raw.outputs[0].shape)) == ("mine", "tiny", "3", [2, 2, 3])
    assert host.served and raw.parameters["model_digest"].string_param == host.served.release.parcel_digest


def test_an_answer_carries_its_identity_as_metadata(host: Host) -> None:
    async def ask() -> None:
        async with channel_to(host) as (_, channel):
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")(raw_request().SerializeToString())
            answer, trailers = messages.ModelInferResponse.FromString(await call), dict(await call.trailing_metadata())
            assert trailers["x-prediction-id"] == answer.parameters["prediction_id"].string_param
            assert trailers["x-model-digest"] == answer.parameters["model_digest"].string_param

    asyncio.run(ask())


def test_a_stream_answers_in_order_and_survives_a_bad_message(host: Host) -> None:
    bad = messages.ModelInferRequest(model_name="other")

    async def ask() -> list[Any]:
        async with channel_to(host) as (_, channel):
            requests = (each.SerializeToString() for each in (raw_request(), bad, typed_request()))
            stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(requests)
            return [messages.ModelStreamInferResponse.FromString(raw) async for raw in stream]

    good, refused_one, other = asyncio.run(ask())
    assert good.infer_response.id == "mine" and other.infer_response.outputs
    assert "unknown model" in refused_one.error_message


def test_the_server_tells_what_it_is_and_serves(host: Host) -> None:
    named = {"name": "tiny", "version": "3"}
    assert asked(host, "ServerLive", messages.ServerLiveRequest()).live
    assert asked(host, "ServerReady", messages.ServerReadyRequest()).ready
    assert asked(host, "ModelReady", messages.ModelReadyRequest(**named)).ready
    assert "binary_tensor_data" in asked(host, "ServerMetadata", messages.ServerMetadataRequest()).extensions
    about = asked(host, "ModelMetadata", messages.ModelMetadataRequest(**named))
    assert [(each.name, list(each.shape)) for each in about.outputs] == [("forecast", [-1, 2, 3])]
    assert asked(host, "RepositoryIndex", messages.RepositoryIndexRequest()).models[0].version == "3"


def test_health_follows_what_is_served_and_says_goodbye(host: Host, served_folder: Callable[[str], Path]) -> None:
    empty = Host(host._folder, ServiceSettings(signatures="off"))
    seen: list[int] = []

    async def ask() -> None:
        async with channel_to(empty) as (front, channel):
            to_bytes, from_bytes = health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse
            check = channel.unary_unary("/grpc.health.v1.Health/Check", to_bytes, from_bytes.FromString)
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch", to_bytes, from_bytes.FromString)
            assert (await check(health_pb2.HealthCheckRequest(service=SERVICE))).status == from_bytes.NOT_SERVING
            async for answer in watch(health_pb2.HealthCheckRequest()):
                seen.append(answer.status)
                if len(seen) == 1:
                    empty.load()
                    front.changed()
                    assert (await check(health_pb2.HealthCheckRequest(service="tiny"))).status == from_bytes.SERVING
                    with pytest.raises(grpc.aio.AioRpcError, match="unknown service"):
                        await check(health_pb2.HealthCheckRequest(service="nobody"))
                elif len(seen) == 2:
                    stopping = asyncio.create_task(front.stop(5))
            await stopping

    asyncio.run(ask())
    status = health_pb2.HealthCheckResponse
    assert seen == [status.NOT_SERVING, status.SERVING, status.NOT_SERVING]


def test_reflection_names_the_services_and_their_messages(host: Host) -> None:
    async def ask() -> list[Any]:
        async with channel_to(host) as (_, channel):
            stream = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            kinds: list[dict[str, Any]] = [{"list_services": ""}, {"file_containing_symbol": SERVICE}]
            return [each async for each in stream(reflection_pb2.ServerReflectionRequest(**kind) for kind in kinds)]

    listed, found = asyncio.run(ask())
    assert {SERVICE, "grpc.health.v1.Health"} <= {each.name for each in listed.list_services_response.service}
    assert b"ModelInferRequest" in found.file_descriptor_response.file_descriptor_proto[0]


class Doorkeeper:
    """Refuses everybody in the words that it was given."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal

    async def knock(self, header: Any, address: str, route: str) -> None:
        """Everybody has a key here; what it is good for is asked then."""

    async def admit(self, header: Any, verb: str, model: str, address: str, num_bytes: int, route: str) -> Caller:
        assert (header("x-tenant"), header("authorization"), address) == ("t", "", "127.0.0.1")
        raise self.refusal


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (413, "RESOURCE_EXHAUSTED"), (429, "RESOURCE_EXHAUSTED")],
)
def test_the_guard_is_asked_and_its_refusals_have_their_codes(host: Host, status: int, code: str) -> None:
    guard = Doorkeeper(Refusal(status, "no", "key", "one", "none", (b"retry-after", b"300")))
    for method, request in (("ModelInfer", raw_request()), ("ModelMetadata", messages.ModelMetadataRequest())):
        error = refused(host, method, request, guard)
        trailers: Any = dict(error.trailing_metadata() or ())
        assert error.code().name == code and error.details() == "key: no: expected one, got none"
        assert trailers["grpc-retry-pushback-ms"] == "300000"
        assert b"google.rpc.RetryInfo" in trailers["grpc-status-details-bin"]
    assert asked(host, "ServerReady", messages.ServerReadyRequest(), guard).ready


def test_what_is_not_served_and_what_is_too_large_have_their_codes(host: Host) -> None:
    assert refused(host, "ModelInfer", messages.ModelInferRequest(model_name="x")).code().name == "NOT_FOUND"
    assert refused(host, "ModelMetadata", messages.ModelMetadataRequest(name="x")).code().name == "NOT_FOUND"
    unready = Host(host._folder, ServiceSettings())
    assert refused(unready, "ModelInfer", raw_request()).code().name == "UNAVAILABLE"
    large = raw_request()
    large.raw_input_contents[0] = bytes(100_000)
    assert refused(host, "ModelInfer", large).code().name == "RESOURCE_EXHAUSTED"


def tls_files(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "s")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(1))
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    (folder / "cert.pem").write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*kinds))
    return folder / "cert.pem", folder / "key.pem"


def test_tls_is_spoken_where_a_certificate_is_set(host: Host, tmp_path: Path) -> None:
    cert, key = tls_files(tmp_path)

    async def ask() -> bytes:
        front = GrpcFront(host, None, None, Metrics(), ServiceSettings(tls_cert=cert, tls_key=key))
        port = await front.start("127.0.0.1:0")
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            answer: bytes = await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
        await front.stop(0)
        return answer

    assert messages.ServerLiveResponse.FromString(asyncio.run(ask())).live


def test_a_port_that_is_taken_is_an_error(host: Host) -> None:
    async def twice() -> None:
        first = GrpcFront(host, None, None, Metrics(), ServiceSettings())
        port = await first.start("127.0.0.1:0")
        try:
            with pytest.raises(OSError, match="expected an address to listen on"):
                await GrpcFront(host, None, None, Metrics(), ServiceSettings()).start(f"127.0.0.1:{port}")
        finally:
            await first.stop(0)

    asyncio.run(twice())
