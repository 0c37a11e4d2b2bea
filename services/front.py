"""Puts the data plane in front of BentoML: a Service whose outermost ASGI app is ours.

`Service.add_asgi_middleware` puts a layer *inside* BentoML's tracing, metrics and access-log layers (their cost stays);
`service_class=` is the documented way to a Service of one's own, and what its `to_asgi` returns is what uvicorn calls.
"""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, TypeVar

import bentoml

T = TypeVar("T")

_PARENT_CHECK_S = 1.0


class FrontService(bentoml.Service[T]):  # type: ignore[misc]
    """A BentoML service that answers from `release.json` and `parcel/` beside the folder of this file."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The data plane, with BentoML's application behind it. Called in worker processes only."""
        # Here and not above: the supervising parent imports this module too, and needs no ONNX Runtime.
        from services.app import DataPlane
        from services.runtime import LOG, Runtime

        LOG.setLevel(logging.INFO)
        # BentoML mutes uvicorn's access log by level only: each line would still be put together, for nobody.
        logging.getLogger("uvicorn.access").propagate = False
        threading.Thread(target=_stop_with_parent, args=(os.getppid(),), daemon=True).start()
        return DataPlane(Runtime(Path(__file__).resolve().parents[1]), super().to_asgi(is_main=is_main))


def _stop_with_parent(parent: int) -> None:
    """SIGTERM to ourselves when the supervising `bentoml serve` is gone: `kill -9` of it must leave no orphan."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
