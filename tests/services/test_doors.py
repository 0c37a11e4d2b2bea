"""What strangers, and callers beyond their scope, try at every door; each was possible once."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from infra.api_keys import KeyFile, issue
from infra.key_ring import KeyRing
from infra.settings import ServiceSettings
from models.artifact.checks import InputError
from models.artifact.decode_table import read_csv
from models.artifact.parquet_footer import DOUBLE, Chunk, Column, FooterError
from models.artifact.parquet_values import values
from models.artifact.wire import parse_request
from services import grpc_door
from services.answers import Refusal
from services.assemble import Parts
from services.grpc_front import SERVICE, GrpcFront
from services.guard import MAX_REMEMBERED, Guard, target
from services.host import Host
from services.observe import Metrics
from services.protocol_v2_frame import check_frame
from services.server import Server
from tests.services.conftest import make_release_folder
from tests.services.test_guard import NOW

OPEN = ServiceSettings(signatures="off")


def tagged(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that is no longer than two million bytes."""
    size, length = len(content), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize("path", ["/a-stranger's/predict", "/admin/anything", "/a/b/explain", "/admin/swap/infer"])
def test_a_strangers_path_is_no_name_in_metrics_and_ledger(path: str) -> None:
    assert target(path).route == "other"
    assert {target(known).route for known in ("/predict", "/admin/swap")} == {"/predict", "/admin/swap"}


def test_long_paths_are_judged_alike_and_not_remembered() -> None:
    before = target.__globals__["_remembered"].cache_info().currsize
    long = "x" * MAX_REMEMBERED
    assert target(f"/models/{long}/predict") == target("/models/a/predict")._replace(model=long)
    assert target.__globals__["_remembered"].cache_info().currsize <= before + 1


@pytest.fixture
def two(tmp_path: Path) -> Host:
    """tiny/3 is the default, the tenant north gets other/1."""
    folder = make_release_folder(tmp_path / "release")
    make_release_folder(folder / "models" / "other" / "1", seed=8, product="other", version=1)
    make_release_folder(folder / "models" / "tiny" / "4", seed=9, version=4)
    (folder / "service.json").write_text('{"tenants": {"north": {"model": "other"}}}')
    host = Host(folder, OPEN)
    host.load()
    assert host.served, host.reason
    return host


def test_a_key_is_for_the_model_that_its_tenant_gets(two: Host, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys" / "keys.json")
    guard = Guard(KeyRing(file.path), default_model=two.default_of)

    async def may(key: str, verb: Any = "predict") -> bool:
        try:
            await guard.admit(lambda name: key if name == "x-api-key" else "", verb, "", "192.0.2.7", 0)
        except Refusal as refusal:
            assert refusal.status == 403
            return False
        return True

    for models, tenant, allowed in (("tiny", "north", False), ("other", "north", True), ("tiny", "", True)):
        record, key = issue("signals", ("predict", "operate"), NOW, models=(models,), tenant=tenant)
        file.add(record)
        assert asyncio.run(may(key)) is allowed
        assert asyncio.run(may(key, "operate")) is (models == "tiny")  # a swap is everybody's
    assert two.find(tenant="north").model_version == two.find("", "1", "north").model_version == "other/1"
    with pytest.raises(Refusal, match="unknown version"):
        two.find("", "4", "north")  # it is the default model's


def test_a_frame_of_millions_of_fields_is_refused_at_once() -> None:
    tensor = tagged(5, tagged(5, b"\x08\x01" * 4096) * 15)
    began = time.process_time()
    with pytest.raises(Refusal) as caught:
        check_frame(tensor * 62)
    assert caught.value.status == 413 and time.process_time() - began < 1
    assert check_frame(tagged(1, b"first") + tagged(1, "mühle".encode())) == "mühle"


class Porter:
    """Lets nobody in, and notes whose call he was asked about."""

    def __init__(self) -> None:
        self.knocks: list[str] = []

    async def knock(self, header: Any, address: str, route: str) -> None:
        self.knocks.append(route)
        raise Refusal(401, "a key is needed", "authorization", "one", "none")


async def refusals(channel: grpc.aio.Channel, method: str, num_calls: int) -> list[str]:
    """Codes of those of many silent calls that ended within half a second; the others are left open."""
    call = channel.stream_stream if "Stream" in method or "reflection" in method else channel.stream_unary
    calls = [call(method)() for _ in range(num_calls)]
    tasks = [asyncio.create_task(call.code()) for call in calls]
    done, open_ones = await asyncio.wait(tasks, timeout=0.5)
    for task in open_ones:
        task.cancel()
    channel.kept = calls  # or they would be cancelled
    return [task.result().name for task in done]


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryIndex"])
def test_who_has_no_key_holds_no_call_by_saying_nothing(two: Host, method: str) -> None:
    async def held() -> list[str]:
        porter = Porter()
        front = GrpcFront(two, porter, None, Metrics(), OPEN)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await front.start('127.0.0.1:0')}") as channel:
            ended = await refusals(channel, f"/{SERVICE}/{method}", 5)
            await front.stop(0)
        assert porter.knocks == [f"/{SERVICE}/{method}"] * 5
        return ended

    assert asyncio.run(held()) == ["UNAUTHENTICATED"] * 5


@pytest.mark.parametrize(
    "method", ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", f"/{SERVICE}/ServerReady"]
)
def test_visitors_leave_room_for_others(two: Host, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_door, "MAX_WATCHERS", 3)
    monkeypatch.setattr(grpc_door, "MAX_VISITORS", 3)

    async def held() -> list[str]:
        front = GrpcFront(two, None, None, Metrics(), OPEN)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await front.start('127.0.0.1:0')}") as channel:
            ended = await refusals(channel, method, 5)
            await front.stop(0)
        return ended

    assert asyncio.run(held()) == ["RESOURCE_EXHAUSTED"] * 2


def test_a_message_that_does_not_come_is_not_waited_for(two: Host) -> None:
    async def code() -> str:
        front = GrpcFront(two, None, None, Metrics(), ServiceSettings(body_timeout_s=0.1))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await front.start('127.0.0.1:0')}") as channel:
            call = channel.stream_unary(f"/{SERVICE}/ModelInfer")()
            found: str = (await call.code()).name
            await front.stop(0)
        return found

    assert asyncio.run(code()) == "DEADLINE_EXCEEDED"


def test_a_column_of_empty_pages_is_refused_at_the_first() -> None:
    page = bytes([0x15, 0, 0x15, 0, 0x15, 0, 0x2C, 0x15, 0, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0])
    content = b"PAR1" + page * 1000
    with pytest.raises(FooterError, match="without values"):
        values(content, Column("a", DOUBLE, "", False, (Chunk(0, 4, len(content), 1),)), 65_536)


def test_bodies_of_far_too_many_values_are_refused_unread(two: Host) -> None:
    assert two.served
    manifest, zeros = two.served.manifest, b"0," * 200_000
    for refuse in (
        lambda: parse_request(manifest, b'{"data":{"time":"2024-05-31T17:45:00","values":[[' + zeros + b"0]]}}"),
        lambda: read_csv(manifest, b"time,a\n" + zeros),
    ):
        with pytest.raises(InputError, match="too many values"):
            refuse()


def test_strangers_are_not_told_where_things_lie(tmp_path: Path) -> None:
    host = Host(tmp_path / "nowhere", ServiceSettings())
    host.load()
    assert host.served is None and "SignatureError" in host.reason and str(tmp_path) not in host.reason
    failing = tmp_path / "kms"
    failing.write_text("#!/bin/sh\necho token=secret >&2\nexit 3\n")
    failing.chmod(0o700)
    host = Host(tmp_path, ServiceSettings(signatures="off", seal_key_command=str(failing)))
    host.load()
    assert host.reason == "KeyFileError: see the log"


class Part:
    """Fails to stop where it is told to, and says that it was asked."""

    def __init__(self, fails: bool) -> None:
        self.fails, self.is_stopped = fails, False

    def stop(self) -> None:
        self.is_stopped = True
        if self.fails:
            raise OSError("no")


class Front:
    """A gRPC front that cannot be stopped."""

    async def stop(self, grace_s: float) -> None:
        raise RuntimeError(f"not within {grace_s:g} s")


def test_capture_and_audit_are_stopped_whatever_fails(two: Host) -> None:
    capture, audit = Part(fails=True), Part(fails=True)
    parts = Parts(two, "", Front(), capture, audit)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no"):
        asyncio.run(parts.stop())
    assert capture.is_stopped and audit.is_stopped


def test_http_is_drained_although_something_beside_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    async def drained(self: Any, sockets: Any = None) -> None:
        await asyncio.sleep(0)
        ended.append("http")

    async def failing() -> None:
        raise RuntimeError("beside it")

    monkeypatch.setattr("uvicorn.Server.shutdown", drained)
    server = Server.__new__(Server)
    server.draining = failing
    with pytest.raises(RuntimeError, match="beside it"):
        asyncio.run(server.shutdown())
    assert ended == ["http"]
