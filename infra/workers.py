"""Ends a worker process with the process that began it, however that ended.

A worker of a `ProcessPoolExecutor` whose parent was killed goes on with what it was at, and then waits for ever.
"""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """To be called in a new worker, as the pool's initializer: from now on it is no orphan."""
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
