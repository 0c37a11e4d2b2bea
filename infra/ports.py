"""Says who holds a TCP port.

It is asked before a server is started on the port, so the answer names the culprit.
"""

import errno
import socket
from dataclasses import dataclass

import psutil


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


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
