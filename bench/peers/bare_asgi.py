"""Bare uvicorn, one raw ASGI function, msgspec and ONNX Runtime: the least that answers, and checks nothing.

No shape, range, time grid or missing share is checked, nothing is counted, identified, guarded or explained.
"""

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn

from models.artifact.manifest import read_verified
from models.artifact.predictor import open_session

manifest, contents = read_verified(Path(sys.argv[1]))
session = open_session(contents["model.onnx"])
window = (1, manifest.past_steps, len(manifest.nodes), len(manifest.channels))
HEADERS = [(b"content-type", b"application/json")]


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    answer = predict(body) if body else b"{}"
    headers = [*HEADERS, (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def predict(body: bytes) -> bytes:
    data = msgspec.json.decode(body)["data"]
    items = data if isinstance(data, list) else [data]
    x = np.array([item["values"] for item in items], np.float32).reshape(-1, *window[1:])
    seen = ~np.isnan(x)
    times = [datetime.fromisoformat(item["time"]) for item in items]
    slots = [(time.hour * 60 + time.minute) // manifest.cadence_min for time in times]
    clock = np.array([[slot, time.weekday()] for slot, time in zip(slots, times, strict=True)], np.int64)
    feed = {"x": np.where(seen, x, 0), "mask": seen.astype(np.float32), "clock": clock}
    output = session.run(None, {item.name: feed[item.name] for item in session.get_inputs()})[0]
    return msgspec.json.encode({"predictions": (output if isinstance(data, list) else output[0]).tolist()})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning", lifespan="off")
