"""Whatever strangers send over gRPC is refused as their error, and the next call is answered."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infra.settings import ServiceSettings
from services import inference_pb2 as messages
from services.answers import Refusal
from services.grpc_front import SERVICE, GrpcFront
from services.host import Host
from services.observe import Metrics
from services.protocol_v2_frame import check_frame

X = np.arange(12, dtype=np.float32).reshape(1, 4, 3, 1)
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
DATATYPES = ["FP32", "INT64", "BYTES", "FP64", "BOOL", ""]

Send = Callable[[bytes], str]


def good() -> Any:
    request = messages.ModelInferRequest(model_name="tiny")
    request.inputs.add(name="x", datatype="FP32", shape=X.shape)
    request.inputs.add(name="clock", datatype="INT64", shape=[1, 2])
    request.raw_input_contents.extend([X.tobytes(), np.array([71, 4]).tobytes()])
    return request


GOOD = bytes(good().SerializeToString())


@pytest.fixture
def send(served_folder: Callable[[str], Path]) -> Iterator[Send]:
    """Sends one message over one channel to one front and returns the status' name."""
    host = Host(served_folder("forecast"), ServiceSettings(signatures="off"))
    host.load()
    front = GrpcFront(host, None, None, Metrics(), ServiceSettings())
    with asyncio.Runner() as runner:
        port = runner.run(front.start("127.0.0.1:0"))
        channel = runner.run(_opened(port))
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        async def ask(raw: bytes) -> str:
            return str((await call(raw).code()).name)

        yield lambda raw: runner.run(ask(raw))
        runner.run(channel.close())
        runner.run(front.stop(0))


async def _opened(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}")


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A sound message with some of its bytes cut, replaced or repeated."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@st.composite
def strange(draw: st.DrawFn) -> bytes:
    """A message of the right names, and anything else in it."""
    request = good()
    x = request.inputs[draw(st.integers(0, 1))]
    sizes = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 12)
    x.shape[:] = draw(st.lists(sizes, max_size=6) | st.just(list(X.shape)))
    x.datatype = draw(st.sampled_from(DATATYPES) | st.text(max_size=5))
    x.name = draw(st.sampled_from(["x", "mask", "clock", "time"]) | st.text(max_size=5))
    request.raw_input_contents[0] = draw(st.binary(max_size=60) | st.just(X.tobytes()))
    if draw(st.booleans()):
        x.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=12)))
        del request.raw_input_contents[draw(st.integers(0, 2)) :]
    return bytes(request.SerializeToString())


def shaped(*shape: int) -> bytes:
    request = good()
    request.inputs[0].shape[:] = shape
    return bytes(request.SerializeToString())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=mangled() | strange() | st.binary(max_size=40))
@example(raw=b"")
@example(raw=shaped(2**40))
@example(raw=shaped(2**62, 4, 3, 1))
@example(raw=shaped(-1, 4, 3, 1))
@example(raw=shaped(*[1] * 60))
def test_nothing_that_strangers_send_is_more_than_refused(send: Send, raw: bytes) -> None:
    status = send(raw)
    assert status == "OK" or status in REFUSALS
    assert send(GOOD) == "OK"


GROWING = {
    "tensors": b"\x2a\x00" * 65,
    "outputs": b"\x32\x00" * 65,
    "parameters": b"\x22\x00" * 65,
    "texts": b"\x2a\xa4\x80\x01" + b"\x2a\xa0\x80\x01" + b"\x42\x00" * 8_208,
    "shape": b"\x2a\x86\x80\x08" + b"\x1a\x82\x80\x08" + b"\x01" * 131_074,
}
BROKEN = {
    "a group": b"\x0b\x0c",
    "an endless number": b"\x08" + b"\xff" * 100,
    "past its end": b"\x2a\x7f",
    "half a fixed number": b"\x0d\x00",
    "no message": b"\xff" * 9,
}


@pytest.mark.parametrize("case", GROWING)
def test_messages_that_would_grow_in_memory_are_refused_unparsed(case: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_frame(GROWING[case])
    assert caught.value.status == 413


@pytest.mark.parametrize("case", BROKEN)
def test_bytes_that_are_no_message_are_the_callers_error(case: str, send: Send) -> None:
    with pytest.raises(Refusal) as caught:
        check_frame(BROKEN[case])
    assert caught.value.status == 400
    assert send(BROKEN[case]) == "INVALID_ARGUMENT"


@settings(max_examples=100, deadline=None)
@given(raw=strange())
def test_every_message_that_protobuf_writes_passes_the_frame(raw: bytes) -> None:
    check_frame(raw)
