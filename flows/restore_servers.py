"""The servers that a restore needs: PostgreSQL and S3 of a services home, for its time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from flows.up_services import choose_ports
from flows.workshop import Workshop
from infra import settings as environment
from infra.atomic import write_atomic
from infra.ports import free_ports
from infra.postgres import postgres_server
from infra.profile import EMBEDDED, Profile, read_profile, read_secrets, write_profile
from infra.seaweedfs import s3_server, wait_for_bucket
from infra.settings import Settings
from infra.stack import Stack

PORTS = "ports.json"


def settle_profile(config: Settings, profile: str, state: Path, *, free: bool = False) -> Settings:
    """The settings of this home with the profile of the backup; secrets that are missing are made.

    While it is restored its servers listen on free ports, beside whatever else runs here; `settle_ports` gives it those
    that it will have, free ones too with `free`. Servers that the environment names belong to somebody else: they are
    used as they are.
    """
    if profile == EMBEDDED:
        return config
    if read_profile(config.folder) is None and not config.is_services:
        usual = choose_ports(config)
        meanwhile = Profile(ports=dict(zip(usual.ports, free_ports(len(usual.ports)), strict=True)))
        write_atomic(state / PORTS, (meanwhile if free else usual).model_dump_json().encode())
        write_profile(config.folder, meanwhile)
    read_secrets(config.folder)
    return environment.with_profile(config)


def settle_ports(home: Path, state: Path) -> None:
    """The ports that a restored services home will have from now on."""
    if (state / PORTS).exists():
        write_profile(home, Profile.model_validate_json((state / PORTS).read_bytes()))


@contextmanager
def databases_and_store(shop: Workshop) -> Iterator[None]:
    """PostgreSQL and S3 of a services home run inside; an embedded home needs nobody. Raises StackError."""
    if read_profile(shop.home) is None:
        yield
        return
    stack = Stack(shop.config)
    with _leaving_politely():
        try:
            stack.up([postgres_server(shop.config), s3_server(shop.config)])
            wait_for_bucket(shop.config)
            yield
        finally:
            stack.down()


@contextmanager
def _leaving_politely() -> Iterator[None]:
    """SIGTERM takes the way of an exception, so that these servers do not outlive a drill that is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
