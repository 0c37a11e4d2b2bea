"""Runs the local servers as one group.

`up` starts and waits, `down` leaves nothing behind, `status` tells.

Every process of the group carries ROADWORTHY_STACK=<digest of HOME> in its environment, so `down` also finds the
children of a supervisord that was killed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock

from infra import after, ports, supervise
from infra.atomic import write_atomic
from infra.processes import marked, stop_marked
from infra.settings import Settings, child_environment
from infra.supervise import LEFT_BEHIND, LOGS, Program

RECORD = "stack.json"
LAST = ({"prefect", "mlflow"}, {"postgres", "s3"})  # stopped when the rest has ended, one set after the other


def _say_nothing(_line: str) -> None:
    """The progress of a caller that does not want any."""


class StackError(RuntimeError):
    """The group did not come up; the message names the program, the reason and the end of its log."""


@dataclass(frozen=True)
class Address:
    """Where people and programs find a server."""

    name: str
    url: str


@dataclass(frozen=True)
class ProgramStatus:
    """`state` is supervisord's (RUNNING, STARTING, BACKOFF, …), UNSUPERVISED or GONE when supervisord was killed."""

    name: str
    state: str
    pid: int | None
    url: str
    since: datetime | None


def stack_mark(config: Settings, folder: Path | None = None) -> dict[str, str]:
    """What every process of a group carries in its environment: HOME's own, or the one whose files are in `folder`."""
    return {"ROADWORTHY_STACK": hashlib.sha256(str(folder or config.folder).encode()).hexdigest()[:16]}


class Stack:
    """The group of one HOME, its files in HOME/run, or a group of its own in `folder`; logs are in `logs` there."""

    def __init__(self, config: Settings, folder: Path | None = None) -> None:
        self.config = config
        self.folder = folder or config.folder / "run"
        self.mark = stack_mark(config, folder)

    def up(
        self,
        programs: Sequence[Program],
        progress: Callable[[str], None] = _say_nothing,
        timeout_s: float = 180.0,
    ) -> list[Address]:
        """Start the group, or bring the running one to `programs`, and wait until each is ready.

        What already runs unchanged is left alone, what is not named any more is stopped. Raises StackError: a port is
        taken (before anything is started), a program gave up, or `timeout_s` passed. A group that this call began is
        taken down again then; its logs stay.
        """
        with self._alone():
            with supervise.connect(self.folder) as supervisor:
                is_running = supervisor is not None
            if not is_running:
                self._clear()
            self._refuse_taken_ports(programs)
            record = {program.name: program.url for program in programs}
            write_atomic(self.folder / RECORD, json.dumps(record).encode(), mode=0o600)
            try:
                supervise.update(self.folder, programs)
                if not is_running:
                    supervise.start(self.folder, child_environment(self.config, **self.mark))
                self._wait(programs, progress, timeout_s)
            except (StackError, supervise.SupervisorError) as error:
                if not is_running:
                    self._clear()
                raise StackError(str(error)) from error
        return [Address(program.name, program.url) for program in programs if program.url]

    def down(self, progress: Callable[[str], None] = _say_nothing) -> int:
        """Stop everything, also what a killed supervisord left; returns how many processes were found.

        Prefect and MLflow go after the rest: the worker still tells them about the runs that it ends. What they stand
        on goes last of all.
        """
        with self._alone():
            num_processes = len(marked(**self.mark))
            with supervise.connect(self.folder) as supervisor:
                if supervisor is not None:
                    progress("stopping " + ", ".join(one["name"] for one in supervisor.getAllProcessInfo()))
                    self._shut_down(supervisor)
            self._clear()
        return num_processes

    def status(self) -> list[ProgramStatus]:
        """Every program that `up` was asked for; empty when the group is down."""
        urls: Mapping[str, str] = self._record()
        with supervise.connect(self.folder) as supervisor:
            infos = {} if supervisor is None else {one["name"]: one for one in supervisor.getAllProcessInfo()}
        if infos:
            return [_status(infos[name], url) for name, url in urls.items() if name in infos]
        return [self._orphan(name, url) for name, url in urls.items()]

    def _orphan(self, name: str, url: str) -> ProgramStatus:
        processes = marked(**self.mark, SUPERVISOR_PROCESS_NAME=name)
        if not processes:
            return ProgramStatus(name, "GONE", None, url, None)
        return ProgramStatus(name, "UNSUPERVISED", min(one.pid for one in processes), url, None)

    def _refuse_taken_ports(self, programs: Sequence[Program]) -> None:
        ours = {process.pid for process in marked(**self.mark)}
        # A container's port is held by its engine, which does not bear our mark.
        known = {(one.name, one.url) for one in self.status() if one.state in ("RUNNING", "STARTING")}
        for program in programs:
            if (program.name, program.url) in known:
                continue
            holder = program.port and ports.holder(self.config.host, program.port)
            if holder and holder.pid not in ours:
                raise StackError(f"{program.name}: {holder}; stop it or choose another port")

    def _wait(self, programs: Sequence[Program], progress: Callable[[str], None], timeout_s: float) -> None:
        began = time.monotonic()
        waiting = {program.name: program for program in programs}
        # A certificate is made out for the name that clients use, not for loopback; this only asks whether it is up.
        with httpx.Client(timeout=5.0, trust_env=False, verify=False) as client:  # noqa: S501
            while waiting:
                states = {one.name: one for one in self.status()}
                for program in list(waiting.values()):
                    if _is_ready(program, states.get(program.name), client):
                        progress(f"{program.name} ready after {time.monotonic() - began:.1f} s {program.url}".rstrip())
                        del waiting[program.name]
                    elif states[program.name].state in ("FATAL", "EXITED", "GONE"):
                        raise StackError(f"{program.name} does not start:\n{self.log_tail(program.name)}")
                if waiting and time.monotonic() - began > timeout_s:
                    name = next(iter(waiting))
                    raise StackError(f"{name} is not ready after {timeout_s:.0f} s:\n{self.log_tail(name)}")
                time.sleep(0.2)

    def log_tail(self, name: str, num_lines: int = 15) -> str:
        """The end of a program's log, below the name of its file."""
        path = self.folder / LOGS / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-num_lines:] if path.exists() else []
        return "\n".join([f"(the end of {path})", *lines])

    def _shut_down(self, supervisor: Any) -> None:
        first = {one["name"] for one in supervisor.getAllProcessInfo()}.difference(*LAST)
        for wave in (first, *LAST):
            for info in supervisor.getAllProcessInfo():
                if info["name"] in wave and info["statename"] in ("RUNNING", "STARTING"):
                    supervisor.stopProcess(info["name"], False)
            _until(lambda: all(one["statename"] != "STOPPING" for one in supervisor.getAllProcessInfo()))
        supervisor.shutdown()
        _until(lambda: not marked(**self.mark))

    def _clear(self) -> None:
        stop_marked(patience_s=10.0, **self.mark)
        for name in (*LEFT_BEHIND, RECORD):
            (self.folder / name).unlink(missing_ok=True)

    def _record(self) -> dict[str, str]:
        path = self.folder / RECORD
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` or `down` of a group at a time."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.folder / "stack.lock"):
            yield


def _is_ready(program: Program, status: ProgramStatus | None, client: httpx.Client) -> bool:
    if status is None or status.state != "RUNNING":  # supervisord calls it STARTING until it has stayed alive
        return False
    if not program.ready_url:
        return True
    if program.ready_url.startswith("tcp://"):
        return after.answers(program.ready_url.removeprefix("tcp://"), 1.0)
    try:
        user, _, password = program.ready_auth.partition(":")
        answer = client.get(program.ready_url, auth=(user, password) if user else None)
    except httpx.TransportError:
        return False
    return answer.is_success and program.ready_text in answer.text


def _until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not condition():
        time.sleep(0.1)


def _status(info: Mapping[str, Any], url: str) -> ProgramStatus:
    since = datetime.fromtimestamp(info["start"], UTC) if info["start"] and info["pid"] else None
    return ProgramStatus(info["name"], info["statename"], info["pid"] or None, url, since)
