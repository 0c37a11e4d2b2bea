"""Asks a running service everything that tritonclient can ask, as a program of its own; prints what came as JSON.

python triton_questions.py HTTP_ADDRESS GRPC_ADDRESS. A process apart from the tests: tritonclient brings messages of
the same names as ours, and protobuf knows one set of them per process.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

X = np.linspace(10, 90, 36, dtype=np.float32).reshape(3, 4, 3, 1)
TIMES = np.array([b"2024-05-31T17:45:00", b"2024-06-01T08:15:00", b"2024-06-02T00:00:00"], object)
CLOCK = np.array([[71, 4], [33, 5], [0, 6]], np.int64)


def inputs(library: Any, by_clock: bool, **options: Any) -> list[Any]:
    """The three windows, their times either way."""
    named = [("x", X, "FP32"), ("clock", CLOCK, "INT64") if by_clock else ("time", TIMES, "BYTES")]
    made = []
    for name, array, datatype in named:
        made.append(library.InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array, **options)
    return made


def text(result: Any) -> str:
    """The forecast's very bytes."""
    array = result.as_numpy("forecast")
    assert array.dtype == np.float32 and array.shape == (3, 2, 3), array
    return bytes(array.tobytes()).hex()


def by_http(address: str) -> dict[str, Any]:
    client = over_http.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "3")
    assert not client.is_model_ready("other")
    about = client.get_model_metadata("tiny")
    assert client.get_model_repository_index()[0]["name"] == "tiny"
    wished = [over_http.InferRequestedOutput("forecast", binary_data=False)]
    answer = client.infer("tiny", inputs(over_http, by_clock=False), request_id="mine")
    assert answer.get_response()["id"] == "mine" and answer.get_response()["parameters"]["prediction_id"]
    found = {
        "binary": text(answer),
        "binary_clock": text(client.infer("tiny", inputs(over_http, by_clock=True), model_version="3")),
        "json": text(client.infer("tiny", inputs(over_http, by_clock=False, binary_data=False), outputs=wished)),
        "mixed": text(client.infer("tiny", inputs(over_http, by_clock=True), outputs=wished)),
        "async": text(client.async_infer("tiny", inputs(over_http, by_clock=False)).get_result()),
    }
    refused = ""
    try:
        client.infer("tiny", inputs(over_http, by_clock=False)[:1])
    except InferenceServerException as error:
        refused = error.message()
    server = client.get_server_metadata()
    return {"forecasts": found, "model": about, "server": server["name"], "refused": refused}


def by_grpc(address: str) -> dict[str, Any]:
    client = over_grpc.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "3")
    about = client.get_model_metadata("tiny", as_json=True)
    assert client.get_model_repository_index(as_json=True)["models"][0]["name"] == "tiny"
    answer = client.infer("tiny", inputs(over_grpc, by_clock=False), request_id="mine")
    assert answer.get_response().id == "mine"
    streamed: list[Any] = []
    client.start_stream(lambda result, error: streamed.append(error or text(result)))
    for _ in range(3):
        client.async_stream_infer("tiny", inputs(over_grpc, by_clock=True))
    client.stop_stream()
    found = {
        "raw": text(answer),
        "version": text(client.infer("tiny", inputs(over_grpc, by_clock=True), model_version="3")),
        **{f"stream_{index}": each for index, each in enumerate(streamed)},
    }
    refused = ""
    try:
        client.infer("tiny", inputs(over_grpc, by_clock=False)[:1])
    except InferenceServerException as error:
        refused = f"{error.status()} {error.message()}"
    return {"forecasts": found, "model": about, "server": client.get_server_metadata().name, "refused": refused}


async def by_both(http: str, grpc: str) -> dict[str, str]:
    async with over_http_aio.InferenceServerClient(http) as one, over_grpc_aio.InferenceServerClient(grpc) as other:
        return {
            "http_aio": text(await one.infer("tiny", inputs(over_http, by_clock=False))),
            "grpc_aio": text(await other.infer("tiny", inputs(over_grpc, by_clock=False))),
        }


if __name__ == "__main__":
    _, http_address, grpc_address = sys.argv
    answers = {
        "x": X.tolist(),
        "times": [time.decode() for time in TIMES],
        "http": by_http(http_address),
        "grpc": by_grpc(grpc_address),
        "aio": asyncio.run(by_both(http_address, grpc_address)),
    }
    sys.stdout.write(json.dumps(answers))
