"""Finds processes by a mark in their environment.

The mark survives the death of every parent and of every pid file.
"""

import psutil


def marked(**mark: str) -> list[psutil.Process]:
    """Living processes that started with all of `mark` in their environment, and their descendants.

    This process and its ancestors are left out, so a command run from inside the group does not end itself.
    """
    spared = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if mark.items() <= process.environ().items() and process.pid not in spared:
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        except psutil.Error:  # ended meanwhile, a zombie, or somebody else's
            continue
    return [process for pid, process in found.items() if pid not in spared and _is_alive(process)]


def marks(name: str) -> set[str]:
    """The values that living processes carry in their environment under this name."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(process.environ().get(name, ""))
        except psutil.Error:
            continue
    return found - {""}


def stop_marked(patience_s: float, **mark: str) -> int:
    """End every marked process: politely, then by force; returns how many there were.

    Asks again until none is left, because a dying supervisor may just have started another.
    """
    num_stopped = 0
    while processes := marked(**mark):
        num_stopped += len(processes)
        for process in processes:
            _signal(process, force=False)
        _, stubborn = psutil.wait_procs(processes, timeout=patience_s)
        for process in stubborn:
            _signal(process, force=True)
        psutil.wait_procs(stubborn, timeout=patience_s)
    return num_stopped


def _signal(process: psutil.Process, force: bool) -> None:
    try:
        process.kill() if force else process.terminate()
    except psutil.NoSuchProcess:
        return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
