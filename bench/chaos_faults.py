"""What is done to the home: processes killed, the disk filled, connections cut, the clock skewed."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from bench import chaos_isolation
from bench.chaos_clock import Clock
from bench.chaos_home import Home, family, until

FIND_S = 20.0
SKEWS_S = (-7200, -300, 300, 7200, 90000)


@dataclass
class World:
    """A home and the means to harm it. `kills`: when (monotonic) which process was killed."""

    home: Home
    random: random.Random
    is_isolated: bool
    clock: Clock | None
    kills: list[tuple[float, str]] = field(default_factory=list)
    note: str = ""
    cut: tuple[int, str] | None = None


def _nothing(_world: World) -> None:
    """A killed process is mended by its supervisor, not by us."""


def _always(_world: World) -> str:
    return ""


@dataclass(frozen=True)
class Fault:
    """`inject` breaks, `heal` ends it after `hold_s`; `missing` says why it cannot be done here, or nothing."""

    name: str
    how: str
    inject: Callable[[World], None]
    heal: Callable[[World], None] = _nothing
    hold_s: tuple[float, float] = (0.0, 0.0)
    missing: Callable[[World], str] = _always


def _kill(world: World, pid: int, name: str) -> None:
    world.kills.append((time.monotonic(), name))
    try:
        os.kill(pid, signal.SIGKILL)
        world.note = f"{name} {pid}"
    except ProcessLookupError:
        world.note = f"{name} {pid} had just ended"


def _kill_program(*names: str) -> Callable[[World], None]:
    """One of the programs of these names, its supervised process or one below it."""

    def inject(world: World) -> None:
        known = {name: pid for name, pid in world.home.pids().items() if name in names}
        name = world.random.choice(sorted(known))
        victims = [one for one in family(known[name]) if "postgres" not in names]
        _kill(world, world.random.choice([one.pid for one in victims] or [known[name]]), name)

    return inject


def _kill_replica(world: World) -> None:
    known = sorted((name, pid) for name, pid in world.home.pids().items() if name.startswith("v"))
    name, pid = world.random.choice(known)
    _kill(world, pid, name)


def _kill_backend(world: World) -> None:
    """A process of PostgreSQL that serves one connection: the postmaster then restarts all of them."""
    below = family(world.home.pids()["postgres"])[1:]
    busy = [one.pid for one in below if "127.0.0.1" in " ".join(_words(one))]
    _kill(world, world.random.choice(busy), "postgres backend")


def _kill_flow(world: World) -> None:
    """The process of a flow that runs now; waits for one."""
    found: list[int] = []

    def look() -> bool:
        below = family(world.home.pids().get("worker", 0))
        found[:] = [one.pid for one in below if _runs_a_flow(one)]
        return bool(found)

    until(look, FIND_S, pause_s=0.1)
    time.sleep(world.random.uniform(0.0, 4.0))
    if found:
        _kill(world, found[-1], "flow")
    else:
        world.note = "no flow ran"


def _runs_a_flow(process: psutil.Process) -> bool:
    """An engine of its own, or a fork of the forge (`flows.warm`), whose parent is the forge."""
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return False
    words, above = " ".join(_words(process)), " ".join(_words(parent)) if parent else ""
    return "prefect.engine" in words or ("flows.warm" in words and "flows.warm" in above)


def _kill_writer(name: str) -> Callable[[World], None]:
    def inject(world: World) -> None:
        _kill(world, world.home.writers[name].pid, name)

    return inject


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _fill(world: World) -> None:
    chaos_isolation.cut_size(world.home.folder)


def _empty(world: World) -> None:
    chaos_isolation.restore_size(world.home.folder)


def _cut(world: World) -> None:
    """Connections to one server, of all that are open and all that are tried: reset, or swallowed."""
    config = world.home.shop.config
    ports = {
        "postgres": config.postgres_port,
        "s3": config.s3_port,
        "mlflow": config.mlflow_server_port,
        "prefect": config.prefect_server_port,
    }
    name, target = world.random.choice(sorted(ports)), world.random.choice(("REJECT", "DROP"))
    world.cut = (ports[name], target)
    world.note = f"{target} {name}"
    chaos_isolation.firewall("-I", ports[name], target)


def _join(world: World) -> None:
    if world.cut is not None:
        chaos_isolation.firewall("-D", *world.cut)
        world.cut = None


def _skew(world: World) -> None:
    seconds = world.random.choice(SKEWS_S)
    world.note = f"{seconds:+} s"
    if world.clock is not None:
        world.clock.set(seconds)


def _unskew(world: World) -> None:
    if world.clock is not None:
        world.clock.set(0)


def _needs_mounts(world: World) -> str:
    return (
        "" if world.is_isolated else "no namespaces of its own: run it without --here, as root or with user namespaces"
    )


def _needs_firewall(world: World) -> str:
    return _needs_mounts(world) or ("" if chaos_isolation.has_firewall() else "no iptables: apt-get install iptables")


def _needs_clock(world: World) -> str:
    return (
        "" if world.clock is not None else "a home of the suite's own and a C compiler: apt-get install gcc libc6-dev"
    )


KILL = "kill -9 of"
FAULTS = (
    Fault("worker", f"{KILL} the worker", _kill_program("worker")),
    Fault("flow", f"{KILL} a running flow's process", _kill_flow),
    Fault("prefect", f"{KILL} Prefect's server", _kill_program("prefect")),
    Fault("mlflow", f"{KILL} MLflow's server or its child", _kill_program("mlflow")),
    Fault("postgres", f"{KILL} the postmaster", _kill_program("postgres")),
    Fault("postgres_backend", f"{KILL} one connection's process", _kill_backend),
    Fault("s3", f"{KILL} the S3 server", _kill_program("s3")),
    Fault("replica", f"{KILL} one of two replicas", _kill_replica),
    Fault("router", f"{KILL} the router", _kill_program("router")),
    Fault("promoter", f"{KILL} a promoting process", _kill_writer("promoter")),
    Fault("tracker", f"{KILL} a process that tracks runs", _kill_writer("tracker")),
    Fault("scribe", f"{KILL} a process that writes the ledger", _kill_writer("scribe")),
    Fault("front", f"{KILL} gateway, hooks or shipper", _kill_program("gateway", "hooks", "capture")),
    Fault("disk_full", "the tmpfs below HOME cut to what is used", _fill, _empty, (4.0, 10.0), _needs_mounts),
    Fault("connections", "iptables: reset or swallow one server's", _cut, _join, (4.0, 12.0), _needs_firewall),
    Fault("clock", "the time of day of every process but S3's stepped", _skew, _unskew, (4.0, 12.0), _needs_clock),
)
