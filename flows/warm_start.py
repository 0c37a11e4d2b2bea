"""Asks the worker's forge for a process: `warm_start.py SOCKET PYTHON`.

Run by `python -I -S`, with the standard library only, it starts in hundredths of a second. It hands its environment,
folder and output over, passes signals on and ends as the flow's process ended. Where no forge answers it becomes
`python -m prefect.engine` itself, as without one.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

ENGINE = ("-m", "prefect.engine")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def own_environment() -> dict[str, str]:
    """This process's environment as it began."""
    pairs = (pair.partition(b"=") for pair in Path("/proc/self/environ").read_bytes().split(b"\0") if pair)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def main(place: str, python: str) -> None:
    """Start it, wait for it, end as it ended."""
    try:
        link = socket.socket(socket.AF_UNIX)
        link.connect(place)
        said = json.dumps({"environment": own_environment(), "folder": str(Path.cwd())}).encode()
        socket.send_fds(link, [len(said).to_bytes(8, "big")], [0, 1, 2])
        link.sendall(said)
        reader = link.makefile("r")
        pid = int(reader.readline())
    except (OSError, ValueError):
        os.execv(python, [python, *ENGINE])  # noqa: S606 - a fixed command of our own
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    status = reader.readline()
    if not status:  # the forge died, and its children with it
        status = str(signal.SIGKILL.value)
    ended = os.waitstatus_to_exitcode(int(status))
    if ended < 0:
        signal.signal(-ended, signal.SIG_DFL) if -ended not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -ended)
    sys.exit(ended)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
