"""What strangers send: the whole documented surface fuzzed, and paths, headers and bodies made to hurt."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance

from infra.api_keys import KeyFile, issue
from infra.key_ring import KeyRing
from infra.settings import ServiceSettings
from services.answers import Application
from services.app import DataPlane
from services.guard import Guard, GuardLayer
from services.host import Host
from services.observe import Metrics
from services.protocol_v2 import ProtocolV2
from tests.services.tensor_parcels import TASKS, make_tensor_folder

OFF = ServiceSettings(signatures="off", auth="off")


def application(folder: Path, guard: Guard) -> Application:
    """Everything that HTTP meets, over this folder."""
    release = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps({**release, "max_body_bytes": 2_000_000}))
    metrics = Metrics()
    host = Host(folder, OFF, metrics)
    host.load()
    assert host.served, host.reason
    plane = DataPlane(host, metrics=metrics, protocol_v2=ProtocolV2(host, metrics=metrics))
    return GuardLayer(plane, guard, answered=metrics.answered)


@pytest.fixture(params=["forecast", "classify", "regress"])
def opened(request: pytest.FixtureRequest, served_folder: Callable[[str], Path], tmp_path: Path) -> Application:
    is_tensors = request.param in TASKS
    folder = make_tensor_folder(tmp_path / "t", request.param) if is_tensors else served_folder(request.param)
    return application(folder, Guard(is_open=True))


@pytest.fixture
def forecast(served_folder: Callable[[str], Path]) -> Application:
    return application(served_folder("forecast"), Guard(is_open=True))


def ask(app: Application, method: str, path: str, **request: Any) -> httpx.Response:
    """One answer; an exception of the application fails the test."""

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return asyncio.run(call())


def is_clean(response: httpx.Response) -> bool:
    """An answer in the words of the protocol, that tells nothing of this machine."""
    told = response.content + repr(response.headers.raw).encode()
    return response.status_code < 500 and not any(
        word in told for word in (b"Traceback", b"site-packages", b"/root", b"root:x")
    )


# starts no server, but is as slow as one
NUM_EXAMPLES = 12


@pytest.mark.services
@pytest.mark.parametrize("opened", ["forecast", "classify", "detect", "regress", "route"], indirect=True)
def test_everything_documented_survives_schemathesis(opened: Application) -> None:
    schema = schemathesis.openapi.from_asgi("/docs.json", opened)
    num_operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        num_operations += 1
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=NUM_EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                # A schema cannot say "at most half missing" or "on the cadence": what fits it may still be refused.
                case.call_and_validate(excluded_checks=[positive_data_acceptance])

            with suppress(Unsatisfiable):  # what takes no parameter cannot be asked wrongly
                check()
    assert num_operations >= 5


TRAVERSALS = (
    "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e", "....//", "%00", "a%00b", "%0d%0aset-cookie:x=1",
    "%ff", "%fe", "a" * 5000, "*", "%20", "{}", "tiny%2f3", "C:%5cwindows", "..;", "%c0%ae%c0%ae", "%u002e", "tiny;x",
    "~root", "-1", "'",
)  # fmt: skip
NAMED = (
    ("POST", "/models/{}/predict"), ("POST", "/models/tiny/versions/{}/predict"), ("POST", "/models/{}/explain"),
    ("GET", "/v2/models/{}"), ("GET", "/v2/models/{}/ready"), ("POST", "/v2/models/{}/infer"), ("GET", "/{}"),
    ("POST", "/v2/models/tiny/versions/{}/infer"), ("GET", "/docs.json/{}"), ("GET", "/v2/{}"), ("POST", "/model/{}"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "route"), NAMED)
def test_no_name_leads_out_of_the_models(forecast: Application, window: Any, method: str, route: str) -> None:
    for name in TRAVERSALS:
        body = json.dumps({"data": window}).encode() if method == "POST" else b""
        path = unquote(route.format(name))  # as a server hands it on
        response = _raw(forecast, path, [(b"content-type", b"application/json")], body, method)
        assert response.status_code in (404, 405), (route, name)
        assert is_clean(response) and "set-cookie" not in response.headers and len(response.content) < 3000


def test_no_method_and_no_header_hurts(forecast: Application, window: Any) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "x" * 300):
        for path in ("/predict", "/explain", "/docs.json", "/v2", "/v2/models/tiny/infer", "/admin/swap"):
            assert is_clean(ask(forecast, method, path))
    odd = (b"\xff\xfe", b"a\r\nx-evil: 1", b"\x00", b"x" * 60_000, b"%s%n", b"-1", b"9" * 400, "٣".encode(), b"")
    names = (
        "x-tenant content-type content-encoding accept inference-header-content-length x-forwarded-for authorization"
    )
    names += " x-api-key content-length host traceparent origin"
    for name in names.split():
        for value in odd:
            for path in ("/predict", "/v2/models/tiny/infer", "/explain"):
                response = _raw(forecast, path, [(name.encode(), value)], json.dumps({"data": window}).encode())
                assert is_clean(response) and "x-evil" not in response.headers


def _raw(
    app: Application, path: str, headers: list[tuple[bytes, bytes]], body: bytes, method: str = "POST"
) -> httpx.Response:
    """An answer to a head that no client library would send."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "client": ("192.0.2.1", 1),
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert all(b"\n" not in value and b"\r" not in value for _, value in sent[0]["headers"])
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=sent[1]["body"])


def nasty_bodies() -> Iterator[bytes]:
    yield from (
        b"",
        b"\x00",
        b"\xff" * 100,
        b"null",
        b"[]",
        b"{}",
        b'"',
        b"1e999",
        b"NaN",
        b'{"data":',
        b"\xef\xbb\xbf{}",
    )
    for depth in (100, 5_000, 9_000):
        yield b'{"data":' + b"[" * depth + b"]" * depth + b"}"
        yield b"[" * depth
        yield b'{"data":' * (depth // 4) + b"1" + b"}" * (depth // 4)
    for value in (
        "1e400",
        "-1e400",
        "1" * 5000,
        '"\\ud800"',
        '"' + "x" * 9000 + '"',
        "true",
        '{"time":7}',
        '{"values":{}}',
    ):
        yield f'{{"data":{value}}}'.encode()
        yield f'{{"inputs":{value}}}'.encode()
        yield f'{{"inputs":[{{"name":"x","shape":{value},"datatype":"FP32","data":{value}}}]}}'.encode()
    for shape in ([2**62, 2**62], [-1], [0], [10**9, 4, 3, 1], [1, 4, 3, 1, 1]):
        for kind in ("FP32", "INT64", "BYTES", "FP16", "XX", ""):
            tensor = {
                "name": "x",
                "shape": shape,
                "datatype": kind,
                "data": [1.0],
                "parameters": {"binary_data_size": 2**40},
            }
            yield json.dumps({"inputs": [tensor], "outputs": [{"name": "forecast"}, {"name": "forecast"}]}).encode()
    yield b'{"data":[' + b"0," * 9_000 + b"0]}"
    yield b'{"data":{"time":"9999-12-31T23:59:59","values":[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}}'
    yield b'{"data":{"time":"0001-01-01T00:00:00+23:59","values":[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]}}'


def test_no_body_hurts(opened: Application) -> None:
    for body in nasty_bodies():
        for path in ("/predict", "/v2/models/tiny/infer", "/explain", "/models/tiny/versions/3/predict", "/admin/swap"):
            for kind in (
                b"application/json",
                b"image/png",
                b"text/csv",
                b"application/vnd.apache.parquet",
                b"application/octet-stream",
            ):
                headers = [(b"content-type", kind), (b"inference-header-content-length", b"10")]
                response = _raw(opened, path, headers if kind != b"application/json" else headers[:1], body)
                assert is_clean(response), (path, kind, body[:80])


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=400), length=st.one_of(st.integers(-5, 500).map(str), st.text(max_size=5)))
def test_no_bytes_hurt_the_binary_extension(forecast: Application, body: bytes, length: str) -> None:
    headers = [(b"inference-header-content-length", length.encode("utf-8", "surrogatepass"))]
    assert is_clean(_raw(forecast, "/v2/models/tiny/infer", headers, body))
    frame = b'{"inputs":[{"name":"x","shape":[1,4,3,1],"datatype":"FP32","parameters":{"binary_data_size":48}}]}'
    declared = [(b"inference-header-content-length", str(len(frame)).encode())]
    assert is_clean(_raw(forecast, "/v2/models/tiny/infer", declared, frame + body))


def test_a_key_of_one_model_reads_no_other(served_folder: Callable[[str], Path], tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys" / "api_keys.json")
    record, key = issue("a", ["predict", "read"], datetime.now(UTC), models=["other"])
    file.add(record)
    app = application(served_folder("forecast"), Guard(KeyRing(file.path), default_model=lambda _: "tiny"))
    headers = {"x-api-key": key}
    asked = [
        ("POST", "/predict"),
        ("POST", "/model/predict"),
        ("POST", "/models/tiny/predict"),
        ("GET", "/v2/models/tiny"),
    ]
    asked += [
        ("POST", "/v2/models/tiny/infer"),
        ("POST", "/models/tiny/versions/3/predict"),
        ("POST", "//models/tiny/predict"),
    ]
    assert [ask(app, method, path, headers=headers).status_code for method, path in asked] == [403] * 7
    assert ask(app, "POST", "/models/other/predict", headers=headers).status_code == 404
