"""Judges a candidate by what happens when it acts, seed by seed beside its references.

Open-loop errors are a poor guide to closed-loop behaviour, so whoever acts on traffic (signals, routes) is let loose in
the simulator beside its references, on traffic that nobody was trained or tuned on. All see the same traffic, and the
seeds are what is independent: the interval is Student's over the differences by seed, each the mean over its scenarios.
"""

from collections.abc import Iterable, Sequence
from math import sqrt

import numpy as np
from scipy.stats import t as student

from models.data.card import Frozen
from models.judging.bootstrap import Interval
from models.judging.gates import GateResult
from models.recipe import JudgeRecipe

MIN_SEEDS = 2


class LoopRow(Frozen):
    """What one controller reached in one scenario under one seed; lower is better."""

    scenario: str
    seed: int
    controller: str
    value: float


class ClosedLoop(Frozen):
    """All runs, and the candidate against the best of its references.

    means: over all seeds and scenarios that everybody finished, by controller
    differences: candidate minus each reference, with the paired interval; `difference` is that of the best reference
    num_seeds: complete ones, of num_wished; fewer only where the budget of seconds ended
    """

    candidate: str
    references: tuple[str, ...]
    best_reference: str
    judged: str
    unit: str
    convention: str
    scenarios: tuple[LoopRow, ...]
    means: dict[str, float]
    differences: dict[str, Interval]
    difference: Interval
    num_seeds: int
    num_wished: int
    passed: bool


def judge_loop(
    rows: Sequence[LoopRow],
    candidate: str,
    references: Sequence[str],
    num_wished: int,
    rules: JudgeRecipe,
    judged: str = "mean time loss",
    unit: str = "s",
    convention: str = "",
) -> ClosedLoop:
    """The record of these runs; passed when the interval against the best reference lies wholly below zero.

    convention: how a run's value was counted, in a sentence. Raises ValueError when fewer than two seeds are complete.
    """
    names = (candidate, *references)
    kept = [row for row in rows if row.controller in names]
    seeds = _complete(kept, names)
    if len(seeds) < MIN_SEEDS:
        raise ValueError(
            f"closed loop of {candidate}: expected at least {MIN_SEEDS} seeds that every controller finished, got "
            f"{len(seeds)}; allow more seconds with --set judge.closed_loop_max_s=SECONDS"
        )
    kept = [row for row in kept if row.seed in seeds]
    values = {name: _by_seed(kept, name, seeds) for name in names}
    means = {name: float(values[name].mean()) for name in names}
    differences = {name: paired(values[candidate] - values[name], rules.confidence) for name in references}
    best = min(references, key=means.__getitem__)
    return ClosedLoop(
        candidate=candidate, references=tuple(references), best_reference=best, judged=judged, unit=unit,
        convention=convention, scenarios=tuple(kept), means=means, differences=differences,
        difference=differences[best], num_seeds=len(seeds), num_wished=num_wished, passed=differences[best].high < 0,
    )  # fmt: skip


def paired(differences: np.ndarray, confidence: float) -> Interval:
    """Mean of the differences by seed (S,) and Student's interval around it."""
    size, mean = len(differences), float(differences.mean())
    half = float(student.ppf((1 + confidence) / 2, size - 1)) * float(differences.std(ddof=1)) / sqrt(size)
    return Interval(value=mean, low=mean - half, high=mean + half, confidence=confidence, method="paired t over seeds")


def loop_gate(record: ClosedLoop) -> GateResult:
    """`beats_best_in_closed_loop`, with the figures in its sentence."""
    mine, theirs = record.means[record.candidate], record.means[record.best_reference]
    one = record.difference
    verb = "beats" if record.passed else "does not beat"
    short = f" ({record.num_wished - record.num_seeds} more did not fit into the budget)"
    return GateResult(
        gate="beats_best_in_closed_loop",
        passed=record.passed,
        reason=(
            f"{record.candidate} {verb} {record.best_reference}, the best of {', '.join(record.references)}, in closed "
            f"loop on {record.num_seeds} unseen seeds{short if record.num_seeds < record.num_wished else ''}: "
            f"{record.judged} {mine:.4g} against {theirs:.4g} {record.unit}, difference {one.value:+.3g} "
            f"[{one.low:+.3g}, {one.high:+.3g}] at {one.confidence:.0%}."
        ),
        expected="upper end of the difference below 0",
        got=f"{one.high:+.3g}",
    )


def champion_gate(mine: ClosedLoop, champion: ClosedLoop | None, confidence: float) -> GateResult:
    """`not_worse_than_champion`, both driven through the same traffic; passed where nothing else is live."""
    gate, name, expected = "not_worse_than_champion", mine.candidate, "lower end of the difference not above 0"
    if champion is None:
        reason = f"{name} has no champion to be driven against: nothing else is live."
        return GateResult(gate=gate, passed=True, reason=reason, expected=expected, got="no champion")
    seeds = sorted({row.seed for row in mine.scenarios} & {row.seed for row in champion.scenarios})
    ours, theirs = (_by_seed(one.scenarios, one.candidate, seeds) for one in (mine, champion))
    difference = paired(ours - theirs, confidence)
    passed = difference.low <= 0
    return GateResult(
        gate=gate,
        passed=passed,
        reason=(
            f"{name} {'is not worse than' if passed else 'is worse than'} the champion in closed loop on {len(seeds)} "
            f"seeds: {mine.judged} {ours.mean():.4g} against {theirs.mean():.4g} {mine.unit}, difference "
            f"{difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}] at {difference.confidence:.0%}."
        ),
        expected=expected,
        got=f"{difference.low:+.3g}",
    )


def _complete(rows: Iterable[LoopRow], names: Sequence[str]) -> list[int]:
    """Seeds of which every controller finished every scenario."""
    found = {(row.scenario, row.seed, row.controller) for row in rows}
    scenarios = {scenario for scenario, _, _ in found}
    return sorted(
        seed
        for seed in {seed for _, seed, _ in found}
        if all((scenario, seed, name) in found for scenario in scenarios for name in names)
    )


def _by_seed(rows: Iterable[LoopRow], name: str, seeds: Sequence[int]) -> np.ndarray:
    """Mean over the scenarios of each seed: (S,)."""
    mine = [row for row in rows if row.controller == name]
    return np.array([np.mean([row.value for row in mine if row.seed == seed]) for seed in seeds])
