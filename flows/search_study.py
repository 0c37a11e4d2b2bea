"""What the search asks for next: an Optuna study in a journal file that survives a kill.

Every trial is in the file before it is worked on and when it is over. A study entered again goes on: what a killed one
was at is asked for again, what other budgets found out about the same teacher is known to it. Sampler: tree-structured
Parzen estimators with several objectives and constraints (Ozaki et al., JAIR 2022; Watanabe and Hutter, IJCAI 2023).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.search_point import Tried
from infra.atomic import write_atomic
from models.compression.space import Point, Space, is_teacher

Constraints = Callable[[Tried], Mapping[str, float]]
NUM_RANDOM = 12  # finished points before the sampler trusts its model
MAX_REPEATS = 200  # suggestions in a row that were tried already: the space is used up
TRIED, FAILED = "tried", "failed"
DIRECTIONS: list[Literal["minimize", "maximize"] | StudyDirection] = ["minimize"] * 3  # error, bytes, median latency


@dataclass(frozen=True)
class Asked:
    """A point to be worked on."""

    number: int
    point: Point


class Study:
    """One search: what was tried, what to try next."""

    def __init__(self, journal: Path, name: str, space: Space, seed: int, constraints: Constraints) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal.parent.mkdir(parents=True, exist_ok=True)
        _mend(journal)
        self._storage = JournalStorage(JournalFileBackend(str(journal)))
        self.space, self._constraints = space, constraints
        self._study = optuna.create_study(
            study_name=name, storage=self._storage, directions=DIRECTIONS, load_if_exists=True
        )
        self._take_up()
        self._study.sampler = TPESampler(
            seed=seed + len(self._study.trials), multivariate=True, constant_liar=True, n_startup_trials=NUM_RANDOM
        )
        running = self._study.get_trials(states=(TrialState.RUNNING,))
        self._lost = [Trial(self._study, trial._trial_id) for trial in running]  # what a killed search was at: first
        self._asked: dict[int, Trial] = {}

    def ask(self) -> Asked | None:
        """The next point that was not tried; None when there is none left."""
        for _ in range(MAX_REPEATS):
            if len(self._known()) >= self.space.num_points:
                return None
            trial = self._lost.pop(0) if self._lost else self._study.ask()
            point = self.space.point(_suggested(trial, self.space))
            if not is_teacher(point) and point.name not in self._known():
                self._asked[trial.number] = trial
                trial.set_user_attr("point", point.name)
                return Asked(trial.number, point)
            self._study.tell(trial, state=TrialState.PRUNED)  # known: it tells the sampler nothing new
        return None

    def tell(self, asked: Asked, result: Tried | str) -> None:
        """What became of it: its figures, or why it could not be tried."""
        trial = self._asked.pop(asked.number)
        if isinstance(result, str):
            trial.set_user_attr(FAILED, {"point": asked.point.model_dump(mode="json"), "reason": result})
            self._study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr(TRIED, result.model_dump(mode="json"))
        for name, over in self._constraints(result).items():
            trial.set_constraint(name, over)
        self._study.tell(trial, _values(result))

    @property
    def tried(self) -> list[Tried]:
        """Every finished point, also those of other budgets, in the order in which they were told."""
        found = [trial for trial in self._study.trials if TRIED in trial.user_attrs and trial.state.is_finished()]
        return [Tried.model_validate(trial.user_attrs[TRIED]) for trial in found]

    @property
    def failed(self) -> list[tuple[Point, str]]:
        """Points that could not be tried, and why."""
        found = [trial.user_attrs[FAILED] for trial in self._study.trials if FAILED in trial.user_attrs]
        return [(Point.model_validate(one["point"]), one["reason"]) for one in found]

    @property
    def num_own(self) -> int:
        """Finished trials that this study asked for itself."""
        return sum("reused" not in t.user_attrs and bool(t.user_attrs.keys() & {TRIED, FAILED}) for t in self._over())

    def _known(self) -> set[str]:
        names = {one.name for one in self.tried} | {point.name for point, _ in self.failed}
        return names | {str(trial.user_attrs["point"]) for trial in self._asked.values()}

    def _over(self) -> Iterator[FrozenTrial]:
        return (trial for trial in self._study.trials if trial.state.is_finished())

    def _take_up(self) -> None:
        """Starting points, and what other budgets know."""
        if not self._study.trials:
            self._reuse()
        for numbers in self.space.starts():
            self._study.enqueue_trial(_params(numbers, self.space), skip_if_exists=True)

    def _reuse(self) -> None:
        seen: set[str] = set()
        for other in optuna.get_all_study_names(self._storage):
            for trial in optuna.load_study(study_name=other, storage=self._storage).trials:
                known = trial.user_attrs.get(TRIED)
                if known is None or trial.state != TrialState.COMPLETE or known["digest"] in seen:
                    continue
                seen.add(known["digest"])
                result = Tried.model_validate(known)
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params=trial.params, distributions=trial.distributions, values=_values(result),
                        user_attrs={TRIED: known, "reused": other}, constraints=dict(self._constraints(result)),
                    )
                )  # fmt: skip


def _suggested(trial: Trial, space: Space) -> dict[str, int]:
    """Sizes and shares have an order; the kind of teaching and of numbers has none."""
    return {
        name: int(trial.suggest_int(name, 0, size - 1))
        if name not in ("base", "precision")
        else getattr(space, f"{name}s").index(trial.suggest_categorical(name, list(getattr(space, f"{name}s"))))
        for name, size in space.sizes.items()
    }


def _params(numbers: Mapping[str, int], space: Space) -> dict[str, Any]:
    """The same as the sampler names it."""
    named = {"base": space.bases, "precision": space.precisions}
    return {name: named[name][number] if name in named else number for name, number in numbers.items()}


def _values(result: Tried) -> list[float]:
    figures = result.figures
    return [figures.error, float(figures.num_bytes), figures.latency_p50_ms]


def _mend(journal: Path) -> None:
    """Cut off a line that a power cut left half written, and the lock of a process that is gone."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        write_atomic(journal, content[: content.rfind(b"\n") + 1])
