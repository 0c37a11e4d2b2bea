"""Runs a candidate and its references in the simulator, in parallel, within a budget.

Every run is a process of its own (SUMO in process is a singleton) and a file in HOME/cache/closed_loop, put in place by
a rename: a kill loses the runs under way, and a reference that drove a seed once is not driven again for the next
candidate. What a task drives is in `flows/closed_loop_<task>.py`.
"""

import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.options import UsageError
from flows.steps import key_of
from infra.atomic import write_atomic
from infra.workers import end_with_parent
from models.judging.closed_loop import ClosedLoop, LoopRow, judge_loop
from models.recipe import Recipe

if TYPE_CHECKING:
    from flows.session import Session

DRIVEN_TASKS = ("control", "route")


@dataclass(frozen=True)
class Run:
    """One simulation, to be done in a process of its own.

    work: "module:function" of a function (arguments) -> rows of (scenario, seed, controller, value)
    arguments: JSON values; what the run's outcome depends on, beside `code`, must be in it (a parcel by its digest)
    place: JSON values that the outcome does not depend on, such as the folder of that parcel
    """

    work: str
    arguments: Mapping[str, Any]
    place: Mapping[str, Any]
    code: str

    @property
    def key(self) -> str:
        return key_of(self.work, dict(self.arguments), self.code)


@dataclass(frozen=True)
class Plan:
    """All that a candidate is to drive. runs: in the order of their seeds, so that a budget cuts off whole seeds."""

    runs: Sequence[Run]
    candidate: str
    references: Sequence[str]
    judged: str
    unit: str
    convention: str


def need_simulator(recipe: Recipe) -> None:
    """Raises UsageError where a driven task lacks the extra `sim`, or would be judged on traffic it learned from."""
    if recipe.task not in DRIVEN_TASKS:
        return
    _loop_of(recipe.task).refuse_seen(_seeds(recipe))
    if find_spec("sumo") is None or find_spec("libsumo") is None:
        raise UsageError(
            f"{recipe.name} is judged in closed loop, and SUMO is not installed; install the extra: "
            ".venv/bin/python -m pip install -e '.[sim]'"
        )


def closed_loop(session: "Session", candidate: str, parcel: Path, digest: str) -> ClosedLoop | None:
    """The candidate's parcel in the simulator against the task's references; None for a task that drives nothing.

    The seeds are `judge.closed_loop_seeds` from `judge.closed_loop_first_seed` on. Raises UsageError when fewer than
    two seeds were finished within `judge.closed_loop_max_s`.
    """
    recipe, rules, seeds = session.recipe, session.recipe.judge, _seeds(session.recipe)
    if recipe.task not in DRIVEN_TASKS:
        return None
    need_simulator(recipe)
    plan: Plan = _loop_of(recipe.task).plan(session, candidate, parcel, digest, seeds)
    rows: list[LoopRow] = []
    cache = session.shop.home / "cache" / "closed_loop"
    for done, found in drive(plan.runs, cache, rules.closed_loop_max_s):
        rows += found
        session.watch("closed loop", done / len(plan.runs), f"{done} of {len(plan.runs)} simulations")
    try:
        return judge_loop(
            rows, plan.candidate, plan.references, len(seeds), rules, plan.judged, plan.unit, plan.convention
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def loop_code(task: str) -> list[str]:
    """What a verdict depends on besides the models' code: the simulation of a driven task; nothing of another one."""
    return [_loop_of(task).code_digest()] if task in DRIVEN_TASKS else []


def _loop_of(task: str) -> Any:
    return importlib.import_module(f"flows.closed_loop_{task}")


def _seeds(recipe: Recipe) -> list[int]:
    return [recipe.judge.closed_loop_first_seed + number for number in range(recipe.judge.closed_loop_seeds)]


def drive(
    runs: Sequence[Run], cache: Path, max_s: float = float("inf"), num_processes: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[int, list[LoopRow]]]:  # fmt: skip
    """(runs done so far, the rows of one), in the order in which they end; none begins after `max_s` seconds.

    num_processes: 0 for one per core. What an earlier call finished is read from `cache`. Raises UsageError when a
    process is killed.
    """
    began, done = clock(), 0
    waiting = []
    for run in runs:
        if (path := cache / f"{run.key}.json").exists():
            done += 1
            yield done, _rows(json.loads(path.read_text()))
        else:
            waiting.append(run)
    if not waiting:
        return
    num_processes = min(num_processes or os.cpu_count() or 1, len(waiting))
    pool = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"), initializer=end_with_parent)
    pending: dict[Future[Any], Run] = {}
    try:
        while waiting or pending:
            while waiting and len(pending) < num_processes and clock() - began < max_s:
                run = waiting.pop(0)
                pending[pool.submit(work, run)] = run
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                rows = _result(future)
                write_atomic(cache / f"{pending.pop(future).key}.json", json.dumps(rows).encode())
                done += 1
                yield done, _rows(rows)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Any]) -> Any:
    """What a run gave. Raises UsageError when the processes themselves are gone."""
    if isinstance(error := future.exception(), BrokenExecutor):
        raise UsageError(
            "a simulation's process died, killed or out of memory: the same command goes on behind the finished ones"
        ) from error
    return future.result()


def work(run: Run) -> list[tuple[str, int, str, float]]:
    """Do one run here and now; what the processes of `drive` are sent to do."""
    module, _, name = run.work.partition(":")
    with redirect_stdout(sys.stderr):  # libsumo greets on stdout, which is for one JSON value
        rows: list[tuple[str, int, str, float]] = getattr(importlib.import_module(module), name)(
            **run.arguments, **run.place
        )
    return rows


def _rows(raw: Sequence[Sequence[Any]]) -> list[LoopRow]:
    return [LoopRow(scenario=a, seed=b, controller=c, value=d) for a, b, c, d in raw]
