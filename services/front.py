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

# BentoML does not tell a worker where its socket is bound; to serve without keys, ROADWORTHY_SERVE_PUBLISHED_ON must.
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104 - what it may be
_PARENT_CHECK_S = 1.0


class FrontService(bentoml.Service[T]):  # type: ignore[misc]
    """A BentoML service that answers from the release folder that this file lies in, as `services.main` does."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The whole application, with BentoML's behind it. Called in worker processes only.

        Raises GuardError or TokenError when the settings would leave the service open to others.
        """
        # Here and not above: the supervising parent imports this module too, and needs no ONNX Runtime.
        from uvicorn.config import HTTP_PROTOCOLS

        from infra.settings import ServiceSettings
        from services.assemble import assemble
        from services.runtime import LOG
        from services.server import protocol

        LOG.setLevel(logging.INFO)
        # BentoML mutes uvicorn's access log by level only: each line would still be put together, for nobody.
        logging.getLogger("uvicorn.access").propagate = False
        threading.Thread(target=_stop_with_parent, args=(os.getppid(),), daemon=True).start()
        settings, folder = ServiceSettings(), Path(__file__).resolve().parents[1]
        assembled = assemble(folder, settings, UNKNOWN_ADDRESS, super().to_asgi(is_main=is_main))
        # BentoML leaves the protocol to uvicorn, which looks here for what it chooses by itself.
        HTTP_PROTOCOLS["auto"] = protocol(settings, assembled.load)  # type: ignore[assignment]
        return assembled.app


def _stop_with_parent(parent: int) -> None:
    """SIGTERM to ourselves when the supervising `bentoml serve` is gone: `kill -9` of it must leave no orphan."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
