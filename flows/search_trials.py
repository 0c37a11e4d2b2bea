"""The trials of a search: asked for, worked on by all workers, told."""

import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import asdict, dataclass
from typing import Any

from filelock import FileLock, Timeout

from flows.options import UsageError
from flows.search_point import Tried, Work
from flows.search_pool import Pool, open_pool
from flows.search_study import Asked, Study
from flows.session import Session
from flows.steps import key_of
from models import catalog
from models.compression.space import Point, Space
from models.judging import pareto
from models.judging.pareto import Budget
from models.judging.record import CandidateReport
from models.recipe import Recipe

POLL_S = 0.5


@dataclass(frozen=True)
class Limits:
    """How long and with whom: points in all of this search, seconds of trying, workers, a Ray cluster's address."""

    num_trials: int
    timeout_s: float
    num_jobs: int
    seed: int = 0
    ray: str = ""


@dataclass(frozen=True)
class Trials:
    """Every finished point, also those that searches under other budgets tried; and those that could not be tried."""

    tried: list[Tried]
    failed: list[tuple[Point, str]]
    num_reused: int
    seconds: float


def run_trials(session: Session, space: Space, budget: Budget, limits: Limits, report: CandidateReport) -> Trials:
    """Go on where an interrupted search stopped. Raises UsageError when another process is at it, or nothing worked.

    report: the teacher's on validation, against which losses are counted
    """
    recipe, began = session.recipe, time.monotonic()
    base = key_of(
        "study", teacher_part(recipe), asdict(space) | {"start": ""}, session.prepared.done.key, catalog.code_digest()
    )
    folder = session.shop.home / "work" / "search"
    folder.mkdir(parents=True, exist_ok=True)

    def constraints(one: Tried) -> dict[str, float]:
        lost = pareto.loss(one.figures.error, report.judged.value, report.judged_name)
        return pareto.excess(one.figures, budget, lost)

    lock = FileLock(folder / f"{base}.lock", timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{recipe.name} on {recipe.data.name}: another process searches it now; wait for it"
        ) from error
    with held:
        name = key_of(budget.model_dump(), limits.seed)
        study = Study(folder / f"{base}.journal", name, space, limits.seed, constraints)
        missing = min(limits.num_trials - study.num_own, limits.num_jobs)
        if missing > 0:
            pool = open_pool(session.shop.config, missing, limits.ray)
            is_whole = False
            try:
                is_whole = _work(session, study, pool, limits, began + limits.timeout_s)
            finally:
                pool.close(at_once=not is_whole)
        tried, failed = study.tried, study.failed
        if not tried:
            reasons = "; ".join(sorted({reason for _, reason in failed})) or "the time was over before one was finished"
            raise UsageError(f"{recipe.name} on {recipe.data.name}: no point could be tried: {reasons}")
        num_reused = len(tried) + len(failed) - study.num_own
        session.watch("trials", 1.0, f"{len(tried)} points tried, {len(failed)} could not be")
        return Trials(tried, failed, num_reused, round(time.monotonic() - began, 3))


def teacher_part(recipe: Recipe) -> dict[str, Any]:
    """What every point of a teacher shares, whatever was searched or chosen for it before."""
    judge = {"max_bytes", "max_latency_ms", "tolerance"}
    left_out = {
        "student": True,
        "prune": {"enabled", "share", "method"},
        "quantise": {"enabled", "method"},
        "judge": judge,
    }
    return recipe.model_dump(mode="json", exclude=left_out)  # type: ignore[arg-type]  # pydantic's IncEx is recursive


def _work(session: Session, study: Study, pool: Pool, limits: Limits, deadline: float) -> bool:
    """Keep every worker busy; False when work was left unfinished because the time was over."""
    waiting: dict[Future[str], Asked] = {}
    while time.monotonic() < deadline:
        while len(waiting) < pool.num_workers and study.num_own + len(waiting) < limits.num_trials:
            asked = study.ask()
            if asked is None:
                break
            work = Work(recipe=session.recipe, data=session.prepared.ref, point=asked.point)
            waiting[pool.submit(work.model_dump_json())] = asked
        if not waiting:
            return True
        over, _ = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in over:
            asked = waiting.pop(future)
            study.tell(asked, _result(future))
            share = study.num_own / limits.num_trials
            session.watch("trials", min(share, 0.999), f"{study.num_own} of {limits.num_trials}: {asked.point.words()}")
    return not waiting


def _result(future: "Future[str]") -> Tried | str:
    """What came of a point. Raises UsageError when the workers themselves are gone."""
    error = future.exception()
    if error is None:
        return Tried.model_validate_json(future.result())
    if isinstance(error, BrokenExecutor):
        raise UsageError(
            "a worker process died, killed or out of memory: the same command goes on where it was; "
            "with less memory choose --jobs 1"
        ) from error
    return f"{type(error).__name__}: {error}"
