"""The local group with real processes, in a HOME too long for a socket path."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from infra import ports
from infra.processes import marked
from infra.servers import mlflow_server, mlflow_url, prefect_server, servers
from infra.settings import Settings
from infra.stack import Stack, StackError
from infra.supervise import LEFT_BEHIND, Program, SupervisorError, configuration


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def file_server(name: str, port: int) -> Program:
    url = f"http://127.0.0.1:{port}"
    argv = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    return Program(name, argv, url=url, port=port, ready_url=url, settle_s=1)


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    one = Stack(Settings(home=tmp_path / ("a folder with a long name " * 6)))
    yield one
    one.down()


def assert_nothing_left(stack: Stack) -> None:
    assert marked(**stack.mark) == []
    assert not [name for name in LEFT_BEHIND if (stack.folder / name).exists()]
    assert stack.status() == []


@pytest.mark.services
def test_up_twice_changes_nothing_and_down_leaves_nothing(stack: Stack) -> None:
    lines: list[str] = []
    programs = [file_server("one", free_port()), file_server("two", free_port())]
    addresses = stack.up(programs, lines.append)
    assert [(one.name, one.url) for one in addresses] == [(one.name, one.url) for one in programs]
    assert all(httpx.get(one.url).is_success for one in addresses)
    assert sorted(line.split()[0] for line in lines) == ["one", "two"]

    first = {one.name: one.pid for one in stack.status()}
    stack.up(programs)
    assert {one.name: one.pid for one in stack.status()} == first
    assert all(one.since is not None for one in stack.status())

    stack.up([programs[0], file_server("three", free_port())])
    now = {one.name: one.pid for one in stack.status()}
    assert list(now) == ["one", "three"]
    assert now["one"] == first["one"]
    assert not psutil.pid_exists(first["two"] or 0)

    assert stack.down() >= 3
    assert_nothing_left(stack)
    assert stack.down() == 0


@pytest.mark.services
def test_a_killed_program_is_started_again(stack: Stack) -> None:
    program = file_server("one", free_port())
    stack.up([program])
    (before,) = stack.status()
    os.kill(before.pid or 0, signal.SIGKILL)
    until(lambda: stack.status()[0].pid not in (None, before.pid))
    stack.up([program])
    assert httpx.get(program.url).is_success


@pytest.mark.services
def test_down_finds_the_children_of_a_killed_supervisor(stack: Stack) -> None:
    programs = [file_server("one", free_port()), file_server("two", free_port())]
    stack.up(programs)
    pids = {one.name: one.pid for one in stack.status()}
    os.kill(int((stack.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: [one.state for one in stack.status()] == ["UNSUPERVISED", "UNSUPERVISED"])
    assert {one.name: one.pid for one in stack.status()} == pids

    stack.up(programs)
    assert [one.state in ("STARTING", "RUNNING") for one in stack.status()] == [True, True]
    assert not set(pids.values()) & {one.pid for one in stack.status()}
    os.kill(int((stack.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    stack.down()
    assert_nothing_left(stack)


@pytest.mark.services
def test_a_taken_port_is_refused_before_anything_starts(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with pytest.raises(StackError, match=rf"two: port {port} is taken by pid {os.getpid()} \("):
            stack.up([file_server("one", free_port()), file_server("two", port)])
    assert_nothing_left(stack)


@pytest.mark.services
def test_a_program_that_gives_up_shows_the_end_of_its_log(stack: Stack) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit('no such 100% road')"))
    with pytest.raises(StackError, match=r"(?s)broken does not start:.*no such 100% road"):
        stack.up([file_server("one", free_port()), broken])
    assert_nothing_left(stack)


@pytest.mark.services
def test_a_program_that_is_never_ready_runs_out_of_time(stack: Stack) -> None:
    deaf = Program("deaf", ("sleep", "600"), ready_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StackError, match="deaf is not ready after 1 s"):
        stack.up([deaf], timeout_s=1.0)
    assert_nothing_left(stack)


@pytest.mark.services
def test_environment_and_arguments_arrive_unchanged(stack: Stack) -> None:
    value = 'x=1, "a", 50% of %(here)s'
    out = stack.folder / "out"
    code = "import os, sys, time; open('out', 'w').write(os.environ['V'] + sys.argv[1]); time.sleep(99)"
    stack.up([Program("echo", (sys.executable, "-c", code, "it's 5%"), environment={"V": value})])
    until(lambda: out.exists() and out.read_text() == value + "it's 5%")


def test_values_that_the_format_cannot_hold_are_refused() -> None:
    for value in ("a ;comment", "a #comment", "two\nlines", "both ' and \""):
        with pytest.raises(SupervisorError, match=r"program one|both kinds"):
            configuration([Program("one", ("true",), environment={"V": value})])


def test_a_free_port_has_no_holder() -> None:
    assert ports.holder("127.0.0.1", free_port()) is None


def test_no_mlflow_is_started_where_a_server_is_named(tmp_path: Path) -> None:
    config = Settings(home=tmp_path, tracking_uri="http://mlflow.example:5000")
    assert [one.name for one in servers(config)] == ["prefect"]
    assert mlflow_url(config) == "http://mlflow.example:5000"


def test_servers_listen_on_loopback_with_telemetry_off(tmp_path: Path) -> None:
    config = Settings(home=tmp_path)
    prefect, mlflow = prefect_server(config), mlflow_server(config)
    assert "127.0.0.1" in prefect.argv
    assert mlflow.environment["MLFLOW_HOST"] == "127.0.0.1"
    assert mlflow.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert mlflow.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.services
def test_a_group_of_its_own_lives_beside_that_of_the_home(stack: Stack) -> None:
    stack.up([file_server("one", free_port())])
    other = Stack(stack.config, stack.config.folder / "deployments" / "tiny")
    other.up([file_server("two", free_port())])
    assert stack.down() >= 2
    assert [one.name for one in other.status()] == ["two"]
    assert other.status()[0].state in ("STARTING", "RUNNING")
    other.down()
    assert_nothing_left(other)


def test_how_long_a_program_settles_is_its_own_setting() -> None:
    assert "startsecs = 10" in configuration([Program("one", ("true",), ready_url="http://127.0.0.1:1")])
    assert "startsecs = 2" in configuration([Program("one", ("true",), ready_url="http://127.0.0.1:1", settle_s=2)])
