"""Says who holds a TCP port.

It is asked before a server is started on the port, so the answer names the culprit.
"""

import errno
import socket
from dataclasses import dataclass
from random import SystemRandom

import psutil

RANGE = range(20_000, 32_000)  # below Linux's default ip_local_port_range


@dataclass(frozen=True)
class Holder:
    """A listening process; `pid` is None when it belongs to somebody whose processes we may not see."""

    port: int
    pid: int | None
    name: str

    def __str__(self) -> str:
        who = f"pid {self.pid} ({self.name})" if self.pid else "a process that this user may not see"
        return f"port {self.port} is taken by {who}"


def holder(host: str, port: int) -> Holder | None:
    """The process that keeps us from listening on `host:port`; None when the port is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return None
    for link in psutil.net_connections(kind="tcp"):
        if link.status == psutil.CONN_LISTEN and link.laddr and link.laddr.port == port and link.pid:
            return Holder(port, link.pid, _name(link.pid))
    return Holder(port, None, "")


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "gone by now"


def free_ports(num_ports: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody holds right now, below those that Linux gives to outgoing connections: for servers to come."""
    found: list[int] = []
    for port in SystemRandom().sample(RANGE, len(RANGE)):
        if len(found) == num_ports:
            break
        if holder(host, port) is None:
            found.append(port)
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """One of `free_ports`."""
    return free_ports(1, host)[0]
