"""A small real search on digits: in worker processes, killed and gone on with, decided under a budget."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.compress import pack
from flows.options import UsageError
from flows.search_front import TEACHER, choice_of, decide, judge_on_test, measure_front
from flows.search_gate import gate_session
from flows.search_origin import find_origin
from flows.search_outcome import nothing_fits
from flows.search_point import found, judge_packed, report_at
from flows.search_quiet import QuietWorkshop
from flows.search_trials import Limits, Trials, run_trials
from flows.session import Session
from flows.steps import Done
from flows.train import fit, variants
from infra.settings import Settings
from models import catalog
from models.catalog import UnknownNameError
from models.compression.space import Space, space_of
from models.judging.pareto import Budget, Figures

pytestmark = [pytest.mark.families, pytest.mark.timeout(900)]  # on a busy machine a killed search takes its time

QUICK = {"train.num_epochs": 2, "distil.num_epochs": 1, "prune.num_epochs": 1, "judge.num_resamples": 100}
BUDGET = Budget(bytes=40_000, max_loss=1.0)
SCRIPT = "import sys; from tests.flows.test_search import begin, go_on; go_on(begin(sys.argv[1]), 3)"


def begin(home: str) -> tuple[Session, Done]:
    """A search whose teacher is fitted, exported and judged."""
    shop = QuietWorkshop(Settings(home=Path(home)))
    origin = find_origin(shop, "classify/mlp", "digits", QUICK)
    session = Session(shop, origin.recipe, origin.prepared, "test")
    teacher = next(one for one in variants(origin.recipe) if one.name == TEACHER)
    fit(session, teacher)
    return session, pack(session, teacher)


def go_on(begun: tuple[Session, Done], num_trials: int) -> Trials:
    session, packed = begun
    report = report_at(judge_packed(session, TEACHER, packed))
    space: Space = space_of(catalog.family("classify", "mlp"), session.recipe)
    return run_trials(session, space, BUDGET, Limits(num_trials, 120.0, num_jobs=1), report)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("search") / "home")


@pytest.fixture(scope="module")
def killed(home: str) -> str:
    """A home whose search was killed with `kill -9` after its first points."""
    here = Path(__file__).parents[2]
    search = subprocess.Popen([sys.executable, "-c", SCRIPT, home], cwd=here, stderr=subprocess.PIPE)
    journals = Path(home) / "work" / "search"
    deadline = time.monotonic() + 200
    while not any(path.read_text().count('"tried"') >= 1 for path in journals.glob("*.journal")):
        assert search.poll() is None, search.stderr.read().decode() if search.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(search.pid).children(recursive=True)
    os.kill(search.pid, signal.SIGKILL)
    search.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers end with the search"
    return home


def test_a_killed_search_goes_on_and_finished_points_are_not_tried_again(killed: str) -> None:
    begun = begin(killed)
    assert begun[1].was_cached
    (journal,) = (Path(killed) / "work" / "search").glob("*.journal")
    num_before = journal.read_text().count('"tried"')
    assert 1 <= num_before < 3
    trials = go_on(begun, 3)
    assert (len(trials.tried), trials.failed, trials.num_reused) == (3, [], 0)
    assert len({one.name for one in trials.tried}) == 3
    # Once more where the kill came between a point's figures and the line that says that it is over.
    assert journal.read_text().count('"tried"') in (3, 4)
    began = time.monotonic()
    assert go_on(begun, 3).tried == trials.tried
    assert time.monotonic() - began < 5, "no worker was started"


def test_the_best_inside_the_budget_is_the_choice_and_its_gates_are_as_tight(killed: str) -> None:
    begun = begin(killed)
    session, packed = begun
    trials = go_on(begun, 3)
    teacher = Figures.model_validate(judge_packed(session, TEACHER, packed).notes)
    measured = measure_front(session, packed, teacher, trials.tried)
    decision = decide(measured.notes, trials.tried, BUDGET, "error rate")
    assert decision.best is not None
    assert set(decision.front) <= set(decision.measured)
    assert decision.points[decision.best].num_bytes <= 40_000 < decision.teacher.num_bytes
    best = next(one for one in trials.tried if one.name == decision.best)
    report = report_at(found(session.shop, "point", best.judged))
    sentence = choice_of(decision, trials.tried, report).sentence
    assert best.point.words() in sentence
    session.parent = session.shop.tracking.lifecycle_run("digits", "x", {})
    gated = gate_session(session, best, BUDGET)
    assert gated.recipe.judge.max_bytes == 40_000
    test = judge_on_test(session, best.name, found(session.shop, "parcel", best.parcel))
    assert (test.split, test.parcel_digest) == ("test", best.digest)


def test_where_nothing_fits_the_nearest_is_named_with_what_it_missed(killed: str) -> None:
    begun = begin(killed)
    trials = go_on(begun, 3)
    teacher = Figures.model_validate(judge_packed(begun[0], TEACHER, begun[1]).notes)
    budget = Budget(bytes=100, max_loss=1.0)
    decision = decide(
        measure_front(begun[0], begun[1], teacher, trials.tried).notes, trials.tried, budget, "error rate"
    )
    assert (decision.best, decision.missed) == (None, ("bytes",))
    assert "allowed 100 B" in nothing_fits(decision, trials, budget)


def test_names_that_are_nothing_are_refused_with_those_that_are(tmp_path: Path) -> None:
    shop = QuietWorkshop(Settings(home=tmp_path))
    with pytest.raises(UnknownNameError, match=r"unknown recipe or live product 'nothing'; known: .*classify/mlp"):
        find_origin(shop, "nothing", None, {})


def test_a_search_at_work_is_not_disturbed(killed: str) -> None:
    from filelock import FileLock

    begun = begin(killed)
    (journal,) = (Path(killed) / "work" / "search").glob("*.journal")
    with FileLock(journal.with_suffix(".lock")), pytest.raises(UsageError, match="another process searches it now"):
        go_on(begun, 3)
