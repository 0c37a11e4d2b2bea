"""Starts a program once what it needs answers: `python -m infra.after NEED… -- COMMAND…`.

supervisord and compose start everything at once and know no health. NEED is `host:port`, which must accept a
connection, or an http address, which must answer below 500; then this process becomes COMMAND. Standard library only:
it starts in hundredths of a second.
"""

import http.client
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

MARKS = (b"ROADWORTHY_STACK=", b"SUPERVISOR_PROCESS_NAME=")
PATIENCE_S = 600.0  # whoever starts it has a shorter one


def answers(need: str, timeout_s: float = 2.0) -> bool:
    """Whether `host:port` accepts a connection, or an http address answers with a status below 500."""
    if not need.startswith("http://"):
        host, _, port = need.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout_s):
                return True
        except OSError:
            return False
    parts = urlsplit(need)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        link.request("GET", parts.path or "/")
        return link.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def end_orphans() -> None:
    """End what a killed predecessor left, such as a child that holds its port: same group, same program, not us.

    Both are told by marks in the environment. This process has no children yet.
    """
    own = _marks("self")
    for path in Path("/proc").glob("[0-9]*") if len(own) == len(MARKS) else ():
        with suppress(OSError):  # it ended, or it is somebody else's
            if int(path.name) != os.getpid() and _marks(path.name) == own:
                os.kill(int(path.name), signal.SIGKILL)


def _marks(pid: str) -> set[bytes]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {pair for pair in pairs if pair.startswith(MARKS)}


def wait(needs: list[str], patience_s: float = PATIENCE_S) -> str:
    """Wait for all; returns the one that did not answer within `patience_s`, or nothing."""
    deadline = time.monotonic() + patience_s
    for need in needs:
        while not answers(need):
            if time.monotonic() > deadline:
                return need
            time.sleep(0.1)
    return ""


def main(words: list[str]) -> None:
    """Wait, then become the command; ends with a message when something did not come."""
    end_orphans()
    at = words.index("--")
    if missing := wait(words[:at]):
        raise SystemExit(f"{missing} does not answer after {PATIENCE_S:.0f} s")
    os.execvp(words[at + 1], words[at + 1 :])  # noqa: S606 - the command of whoever starts this


if __name__ == "__main__":
    main(sys.argv[1:])
