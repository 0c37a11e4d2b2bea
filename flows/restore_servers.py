"""The servers that a restore needs: PostgreSQL and S3 of a services home, for its time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.deployed import free_ports
from flows.up_services import choose_ports
from flows.workshop import Workshop
from infra import settings as environment
from infra.postgres import postgres_server
from infra.profile import EMBEDDED, Profile, read_profile, read_secrets, write_profile
from infra.seaweedfs import s3_server
from infra.settings import Settings
from infra.stack import Stack


def settle_profile(config: Settings, profile: str, *, free: bool = False) -> Settings:
    """The settings of this home with the profile of the backup; its ports are chosen, missing secrets made.

    free: every port is a free one, for a restore beside a running home
    """
    if profile == EMBEDDED:
        return config
    if read_profile(config.folder) is None:
        chosen = choose_ports(config)
        if free:
            ports = free_ports(len(chosen.ports))
            chosen = Profile(ports=dict(zip(chosen.ports, ports, strict=True)))
        write_profile(config.folder, chosen)
    read_secrets(config.folder)
    return environment.with_profile(config)


@contextmanager
def databases_and_store(shop: Workshop) -> Iterator[None]:
    """PostgreSQL and S3 of a services home run inside; an embedded home needs nobody. Raises StackError."""
    if not shop.config.is_services:
        yield
        return
    stack = Stack(shop.config)
    with _leaving_politely():
        try:
            stack.up([postgres_server(shop.config), s3_server(shop.config)])
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
