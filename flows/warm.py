"""A forge of flow processes: Prefect imported once, each run a fork of it.

A process of Prefect's engine spends seconds on imports before a flow's first line, every minute for the flows that
watch. The worker therefore starts its runs through `flows/warm_start.py`, which asks this process for a fork. It has
one thread and has imported no numerical library, so a fork is whole; a run that needs torch imports it itself, as
before. The forge lives and dies with the worker; without it, runs start as Prefect starts them.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.settings import replace_environment

SOCKET = "warm.sock"
PRELOADED = (
    "prefect.flow_engine", "prefect.task_engine", "prefect.flows", "prefect.deployments.steps.core",
    "prefect.client.orchestration", "prefect.artifacts", "prefect._internal.metrics", "prefect.logging.handlers",
    "prefect.events.clients", "flows.watch_runs",
)  # fmt: skip
STDIO = (0, 1, 2)
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
HEAD_BYTES = 8


def end_with_parent() -> None:
    """Linux kills this process when the one that started it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Forge:
    """Listens for `warm_start`, forks, tells how each fork ended; one whose asker is gone is killed."""

    listener: socket.socket
    children: dict[int, socket.socket] = field(default_factory=dict)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    is_ending: bool = False

    def serve(self) -> None:
        """Until SIGTERM, and then until the last fork ended: the group's flows are told to end by themselves."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in ENDINGS:
            signal.signal(number, self._end)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(woken, selectors.EVENT_READ)
        while self.children or not self.is_ending:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self._begin(self.listener.accept()[0])
                elif key.fileobj is woken:
                    woken.recv(4096)
                    self._reap()
                else:
                    self._asker_left(key.data)

    def _end(self, _number: int, _frame: object) -> None:
        self.is_ending = True

    def _begin(self, link: socket.socket) -> None:
        try:
            order, streams = _read_order(link)
        except (OSError, ValueError):
            link.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(link, order, streams)
        for stream in streams:
            os.close(stream)
        self.children[pid] = link
        self.selector.register(link, selectors.EVENT_READ, pid)
        with suppress(OSError):  # its asker has gone: the selector will say so
            link.sendall(f"{pid}\n".encode())

    def _become(self, link: socket.socket, order: dict[str, Any], streams: list[int]) -> None:
        """In the fork: the process that was asked for, to its end."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *ENDINGS):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        self.selector.close()
        self.listener.close()
        for other in (link, *self.children.values()):
            other.close()
        for stream, wanted in zip(streams, STDIO, strict=True):
            os.dup2(stream, wanted)
            os.close(stream)
        os.chdir(order["folder"])
        replace_environment(order["environment"])
        end_with_parent()
        sys.exit(_engine())  # through the interpreter's own end, which sends the last logs

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            link = self.children.pop(pid)
            if link.fileno() in self.selector.get_map():
                self.selector.unregister(link)
                with suppress(OSError):  # the asker went just now
                    link.sendall(f"{status}\n".encode())
            link.close()

    def _asker_left(self, pid: int) -> None:
        """The worker killed whom it takes for the flow's process."""
        self.selector.unregister(self.children[pid])
        os.kill(pid, signal.SIGKILL)


def _read_order(link: socket.socket) -> tuple[dict[str, Any], list[int]]:
    link.settimeout(5.0)
    head, streams, _, _ = socket.recv_fds(link, HEAD_BYTES, len(STDIO))
    if len(head) < HEAD_BYTES or len(streams) != len(STDIO):
        raise ValueError("half an order")
    with link.makefile("rb", buffering=0) as reader:
        wanted, said = int.from_bytes(head, "big"), b""
        while len(said) < wanted:
            part = reader.read(wanted - len(said))
            if not part:
                raise ValueError("half an order")
            said += part
    order: dict[str, Any] = json.loads(said)
    return order, streams


def _engine() -> int:
    """`python -m prefect.engine` with what is in the environment now; its exit status."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    sys.argv = ["prefect.engine"]
    try:
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main() -> None:
    """Listen in this folder, then import: whoever asks meanwhile waits, which is quicker than to import as well."""
    end_with_parent()
    Path(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o177)
    listener.bind(SOCKET)
    os.umask(previous)
    listener.listen(64)
    warnings.simplefilter("ignore")
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    Forge(listener).serve()


if __name__ == "__main__":
    main()
