"""supervisord: what it is told about each program, and how it is asked.

A socket path may have 107 characters and HOME may be longer. So supervisord runs inside HOME/run and opens its socket
through /proc/self/cwd, and we reach it through /proc/self/fd.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from infra.atomic import write_atomic

CONFIG, SOCKET, PID, LOGS = "supervisord.conf", "supervisor.sock", "supervisord.pid", "logs"
LEFT_BEHIND = (CONFIG, SOCKET, PID)


@dataclass(frozen=True)
class Program:
    """One server of the group.

    `environment` is added to that of the group. It is ready when `ready_url` answers 2xx with `ready_text` in it, or,
    without one, when it has stayed alive for a second. `url` is what people open; `port` is the one it listens on.
    `settle_s`: an end within so many seconds after its start counts as one that did not start; None: 10 where it has a
    `ready_url`, else 1. `ready_url` may be `tcp://host:port`, ready when it accepts a connection. `needs`: addresses
    that must answer before the command starts, see `infra.after`. `stop_signal` ends it; `start_retries` in a row.
    `ready_auth`: `user:password` for `ready_url`.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    port: int | None = None
    ready_url: str = ""
    ready_text: str = ""
    priority: int = 500
    settle_s: int | None = None
    needs: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    start_retries: int = 2
    ready_auth: str = field(default="", repr=False)

    @property
    def command(self) -> tuple[str, ...]:
        """`argv`, after what it needs."""
        return (sys.executable, "-m", "infra.after", *self.needs, "--", *self.argv) if self.needs else self.argv


class SupervisorError(RuntimeError):
    """supervisord did not start, or a program cannot be described to it."""


def configuration(programs: Sequence[Program]) -> str:
    """The text of supervisord.conf; raises SupervisorError for a value that its format cannot hold."""
    lines = ["[supervisord]", f"pidfile = {PID}", f"logfile = {LOGS}/supervisord.log"]
    lines += ["logfile_maxbytes = 5MB", "logfile_backups = 2"]
    if os.geteuid() == 0:
        lines.append("user = root")
    lines += ["", "[unix_http_server]", f"file = /proc/self/cwd/{SOCKET}", "chmod = 0600"]
    lines += ["", "[rpcinterface:supervisor]"]
    lines.append("supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface")
    for program in programs:
        lines += ["", *_section(program)]
    return "\n".join(lines) + "\n"


def start(folder: Path, environment: Mapping[str, str]) -> None:
    """Start supervisord in `folder`, where its configuration is; returns when its socket answers. SupervisorError."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIG]
    done = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SupervisorError(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-500:]}")


@contextmanager
def connect(folder: Path) -> Iterator[Any]:
    """The `supervisor` namespace of its XML-RPC; yields None when nobody answers."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield None
        return
    try:
        transport = SupervisorTransport(None, None, f"unix:///proc/self/fd/{descriptor}/{SOCKET}")
        namespace = ServerProxy("http://127.0.0.1", transport=transport).supervisor
        yield namespace if _answers(namespace) else None
        transport.close()
    finally:
        os.close(descriptor)


def update(folder: Path, programs: Sequence[Program]) -> None:
    """Write the configuration; a running supervisord starts, stops and restarts what differs."""
    (folder / LOGS).mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(folder / CONFIG, configuration(programs).encode(), mode=0o600)
    with connect(folder) as supervisor:
        if supervisor is None:
            return
        ((added, changed, removed),) = supervisor.reloadConfig()
        for name in (*removed, *changed):
            supervisor.stopProcessGroup(name)
            supervisor.removeProcessGroup(name)
        for name in (*added, *changed):
            supervisor.addProcessGroup(name)
        known = {program.name for program in programs}
        for info in supervisor.getAllProcessInfo():
            if info["name"] in known and info["statename"] in ("STOPPED", "EXITED", "FATAL"):
                supervisor.startProcess(info["name"], False)


def _answers(supervisor: Any) -> bool:
    try:
        return bool(supervisor.getState()["statename"] == "RUNNING")
    except (OSError, Fault):
        return False


def _section(program: Program) -> list[str]:
    settle_s = program.settle_s or (10 if program.ready_url else 1)
    settings = {
        "command": shlex.join(program.command),
        "environment": ",".join(f"{name}={_quoted(value)}" for name, value in sorted(program.environment.items())),
        "priority": str(program.priority),
        "autorestart": "true",
        "startsecs": str(settle_s),
        "startretries": str(program.start_retries),
        "stopwaitsecs": "15",
        "stopsignal": program.stop_signal,
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"{LOGS}/{program.name}.log",
        "stdout_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": "2",
    }
    for name, value in settings.items():
        if any(mark in value for mark in ("\n", " ;", " #")):
            raise SupervisorError(f"program {program.name}: {name} holds a line break, ' ;' or ' #': {value!r}")
    return [f"[program:{program.name}]", *(f"{name} = {value.replace('%', '%%')}" for name, value in settings.items())]


def _quoted(value: str) -> str:
    if '"' not in value:
        return f'"{value}"'
    if "'" not in value:
        return f"'{value}'"
    raise SupervisorError(f"a value in a program's environment holds both kinds of quotes: {value!r}")
