"""Serves a release folder: one process, one event loop, HTTP and gRPC.

    python -m services.main --folder F --host 127.0.0.1 --port 3000 --grpc-port 3001

Everything else is set by ROADWORTHY_SERVE_… (infra.settings.ServiceSettings). Status 2: the settings would leave the
service open to others, or are no settings. A folder that cannot be served leaves the process alive: `/readyz` says why.
"""

import argparse
import gc
import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from infra.api_keys import TokenError
from infra.settings import ServiceSettings
from services.assemble import Assembled, assemble
from services.guard import GuardError
from services.runtime import LOG
from services.server import server
from services.tracing import TracingError

GC_THRESHOLDS = (10_000, 20, 50)


class TlsError(ValueError):
    """TLS was asked for with half of what it needs."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM; the status to exit with."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    LOG.setLevel(logging.INFO)
    try:
        settings = _settings(options)
        _check_tls(settings)
        assembled = assemble(options.folder.resolve(), settings, options.host)
    except (GuardError, TokenError, TlsError, TracingError, ValidationError) as error:
        sys.stderr.write(f"services.main: {error}\n")
        return 2
    # What is there now lives to the end; and a request makes few objects, none of them in a circle.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    running = server(assembled.app, settings, assembled.load, options.host, options.port, assembled.parts.drain)
    running.announce = lambda port: _announce(assembled, options.host, port)
    running.run()
    return 0


def _announce(assembled: Assembled, address: str, port: int) -> None:
    """One line on standard output, once clients are answered."""
    host = assembled.host
    served = ", ".join(f"{name}/{version}" for name, versions in host.names().items() for version in versions)
    grpc = f", gRPC on port {assembled.parts.grpc_port}" if assembled.parts.grpc_port else ""
    scheme = "https" if assembled.settings.tls_cert else "http"
    sys.stdout.write(f"{scheme}://{address}:{port}{grpc}: {served or f'not ready: {host.reason}'}\n")
    sys.stdout.flush()


def _settings(options: argparse.Namespace) -> ServiceSettings:
    """The environment's settings with what the command line says on top."""
    said = {"grpc_port": options.grpc_port, "tls_cert": options.tls_cert, "tls_key": options.tls_key}
    if options.open:
        said["auth"] = "off"
    return ServiceSettings(**{name: value for name, value in said.items() if value is not None})


def _check_tls(settings: ServiceSettings) -> None:
    for name, path, other in (
        ("tls_cert", settings.tls_cert, settings.tls_key),
        ("tls_key", settings.tls_key, settings.tls_cert),
    ):
        if path is None and other is not None:
            raise TlsError(f"{name}: expected a PEM file beside {other}, got none; give both or neither")
        if path is not None and not path.is_file():
            raise TlsError(f"{name}: expected a PEM file, got {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.main", description="Serve a release folder.")
    parser.add_argument("--folder", type=Path, required=True, help="holds parcel/, parcel.sig and release.json")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--tls-cert", type=Path, help="PEM")
    parser.add_argument("--tls-key", type=Path, help="PEM")
    parser.add_argument("--open", action="store_true", help="no keys are asked for; on loopback only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
