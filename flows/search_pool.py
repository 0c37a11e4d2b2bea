"""Who works for the search: processes on this machine's cores, or a Ray cluster.

Both take a `Work` as JSON and give a future of a `Tried` as JSON. A worker computes with one thread; it ends when the
search's own process does, however that ended.
"""

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Protocol

from flows.options import UsageError
from flows.search_point import try_point
from infra import settings as environment
from infra.settings import Settings
from infra.workers import end_with_parent


class Pool(Protocol):
    """Takes work, gives futures."""

    num_workers: int

    def submit(self, work: str) -> "Future[str]": ...

    def close(self, *, at_once: bool) -> None: ...


def open_pool(config: Settings, num_workers: int, ray_address: str = "") -> Pool:
    """Processes here, or where an address is given a Ray cluster. Raises UsageError."""
    environment.apply(config, OMP_NUM_THREADS="1")  # for the children: the libraries of this process are loaded by now
    return RayPool(config, num_workers, ray_address) if ray_address else Processes(num_workers)


class Processes:
    """As many processes as there are jobs, each with one point at a time."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._others = set(multiprocessing.active_children())
        self._executor = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_begin)

    def submit(self, work: str) -> "Future[str]":
        return self._executor.submit(try_point, work)

    def close(self, *, at_once: bool) -> None:
        """Wait for the workers, or end them: what they were at is found by their heirs, at its last checkpoint."""
        if at_once:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)


class RayPool:
    """Tasks of one core each on a Ray cluster whose machines reach the same object store and have this code."""

    def __init__(self, config: Settings, num_workers: int, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--ray: expected the package ray to be installed, got none: pip install ray") from error
        self._ray: Any = ray
        self.num_workers = num_workers
        every = environment.child_environment(config)
        own = {name: value for name, value in every.items() if name.startswith("ROADWORTHY_")}
        ray.init(
            address=None if address == "local" else address,
            num_cpus=num_workers if address == "local" else None,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {**environment.environment(config), **own, "OMP_NUM_THREADS": "1"}},
        )
        self._task = ray.remote(num_cpus=1, max_retries=2)(try_point)

    def submit(self, work: str) -> "Future[str]":
        future: Future[str] = self._task.remote(work).future()
        return future

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - a cluster ends its own tasks when its driver leaves
        self._ray.shutdown()


def _begin() -> None:
    """In a new worker: stdout is the command's JSON, so chatter goes to stderr; and end with the parent."""
    os.dup2(2, 1)
    end_with_parent()
