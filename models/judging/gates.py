"""Inspects a model before it goes on the road.

A gate says what it saw; it does not raise, print or promote.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from models import catalog
from models.data.card import Frozen
from models.judging.bootstrap import Errors, Interval, compare
from models.judging.record import Judged, ahead_text
from models.judging.select import bytes_text, error_text
from models.recipe import JudgeRecipe


class GateResult(Frozen):
    """One gate: whether it was passed, and a sentence with the numbers."""

    gate: str
    passed: bool
    reason: str
    expected: str
    got: str


class Verdict(Frozen):
    """All gates of one candidate; passed when every one was."""

    candidate: str
    passed: bool
    results: tuple[GateResult, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the gates that were not passed; of all when every one was."""
        return tuple(result.reason for result in self.results if self.passed or not result.passed)


def judge(
    candidate: Judged,
    references: Mapping[str, Judged],
    champion: Judged | None,
    rules: JudgeRecipe,
    driven: Sequence[GateResult] = (),
) -> Verdict:
    """The verdict on `candidate`, judged on the test split.

    references: the baselines' reports on the same split, by family. champion: the live model's report on the same
    split, None where nothing is live. driven: what the simulator showed, where the task is driven; a policy is held
    against the champion there, and not by how often it decides alike.
    """
    results = []
    if candidate.report.task == "classify":
        results.append(_beats_errors(candidate, "majority", _majority(candidate.errors), rules))
    owed = {name: card.gate for name, card in catalog.families(candidate.report.task).items() if card.gate}
    for name in sorted(owed, key=lambda name: (owed[name], name)):
        held_against = _beats if owed[name] == "beat" else _not_worse
        results.append(held_against(candidate, name, references.get(name), rules))
    if candidate.report.task == "detect":
        results.append(_false_alarms(candidate, rules))
    results += driven or [_champion(candidate, champion, rules)]
    results += [_latency(candidate, rules), _bytes(candidate, rules), _golden(candidate), _contract(candidate)]
    return Verdict(candidate=candidate.report.name, passed=all(r.passed for r in results), results=tuple(results))


def _beats(candidate: Judged, name: str, reference: Judged | None, rules: JudgeRecipe) -> GateResult:
    if reference is None:
        return _absent(f"beats_{name}", candidate, name)
    return _beats_errors(candidate, name, reference.errors, rules)


def _beats_errors(candidate: Judged, name: str, reference: Errors, rules: JudgeRecipe) -> GateResult:
    """Strictly better: the whole paired interval of the difference lies below zero."""
    gate = f"beats_{name}"
    if not _same_samples(candidate.errors, reference):
        return _unpaired(gate, candidate, name)
    difference = compare(candidate.errors, reference, rules.confidence, rules.num_resamples)
    passed = difference.high < 0
    verb = "beats" if passed else "does not beat"
    return GateResult(
        gate=gate,
        passed=passed,
        reason=f"{candidate.report.name} {verb} {name}: {_against(candidate, reference, difference)}.",
        expected="upper end of the difference below 0",
        got=_signed(candidate, difference.high),
    )


def _not_worse(
    candidate: Judged, name: str, reference: Judged | None, rules: JudgeRecipe, role: str = ""
) -> GateResult:
    """Not worse beyond the interval: its lower end is not above zero."""
    gate = f"not_worse_than_{role or name}"
    if reference is None:
        return _absent(gate, candidate, name)
    if not _same_samples(candidate.errors, reference.errors):
        return _unpaired(gate, candidate, name)
    difference = compare(candidate.errors, reference.errors, rules.confidence, rules.num_resamples)
    passed = difference.low <= 0
    verb = "is not worse than" if passed else "is worse than"
    return GateResult(
        gate=gate,
        passed=passed,
        reason=f"{candidate.report.name} {verb} {name}: {_against(candidate, reference.errors, difference)}.",
        expected="lower end of the difference not above 0",
        got=_signed(candidate, difference.low),
    )


def _champion(candidate: Judged, champion: Judged | None, rules: JudgeRecipe) -> GateResult:
    gate, name = "not_worse_than_champion", candidate.report.name
    expected = "lower end of the difference not above 0"
    if champion is None:
        reason = f"{name} has no champion to be compared with: nothing is live."
        return GateResult(gate=gate, passed=True, reason=reason, expected=expected, got="no champion")
    if champion.report.parcel_digest == candidate.report.parcel_digest:
        reason = f"{name} is the champion: parcel {candidate.report.parcel_digest[:12]} is live."
        return GateResult(gate=gate, passed=True, reason=reason, expected=expected, got="is the champion")
    return _not_worse(candidate, f"the champion ({champion.report.name})", champion, rules, role="champion")


def _latency(candidate: Judged, rules: JudgeRecipe) -> GateResult:
    got, allowed = candidate.report.cost.latency_p99_ms, rules.max_latency_ms
    return _budget("latency_budget", candidate, got <= allowed, f"p99 {got:.3g} ms for one request", f"{allowed:g} ms")


def _bytes(candidate: Judged, rules: JudgeRecipe) -> GateResult:
    got, allowed = candidate.report.cost.num_bytes, rules.max_bytes
    return _budget("bytes_budget", candidate, got <= allowed, bytes_text(got), bytes_text(allowed))


def _false_alarms(candidate: Judged, rules: JudgeRecipe) -> GateResult:
    """An operator who is called for nothing stops coming."""
    found = [item.value for item in candidate.report.metrics if item.name == "false_alarms_per_100_station_hours"]
    if not found:
        return _absent("false_alarm_budget", candidate, "false alarms")
    allowed = f"{rules.max_false_alarms:g} per 100 station-hours"
    got = f"{found[0]:.3g} false alarms per 100 station-hours"
    return _budget("false_alarm_budget", candidate, found[0] <= rules.max_false_alarms, got, allowed)


def _budget(gate: str, candidate: Judged, passed: bool, got: str, allowed: str) -> GateResult:
    verb = "is within" if passed else "is over"
    reason = f"{candidate.report.name} {verb} its {gate.replace('_', ' ')}: {got}, allowed {allowed}."
    return GateResult(gate=gate, passed=passed, reason=reason, expected=f"at most {allowed}", got=got)


def _golden(candidate: Judged) -> GateResult:
    report = candidate.report
    passed = report.golden_difference <= report.golden_tolerance
    got, allowed = f"{report.golden_difference:.3%} off", f"{report.golden_tolerance:.1%}"
    verb = "reproduces" if passed else "does not reproduce"
    reason = f"{report.name} {verb} its golden request: {got} of the answer's scale, allowed {allowed}."
    return GateResult(
        gate="golden_reproduced", passed=passed, reason=reason, expected=f"at most {allowed} off", got=got
    )


def _contract(candidate: Judged) -> GateResult:
    """The data was checked when its snapshot was made; here it must be that very snapshot."""
    report = candidate.report
    passed = report.trained_on == report.judged_on
    verb = "kept: trained and judged on snapshot" if passed else "broken: trained on one snapshot, judged on"
    return GateResult(
        gate="data_contract_kept",
        passed=passed,
        reason=f"The data contract is {verb} {report.judged_on[:12]}.",
        expected=f"snapshot {report.judged_on[:12]}",
        got=f"snapshot {report.trained_on[:12]}",
    )


def _majority(errors: Errors) -> Errors:
    """What naming every image after the commonest class would get wrong; the groups are the actual classes."""
    commonest = np.bincount(errors.groups).argmax()
    return Errors((errors.groups != commonest).astype(np.float64), errors.counts, errors.groups, errors.method)


def _same_samples(a: Errors, b: Errors) -> bool:
    return a.method == b.method and np.array_equal(a.counts, b.counts) and np.array_equal(a.groups, b.groups)


def _absent(gate: str, candidate: Judged, name: str) -> GateResult:
    reason = f"{candidate.report.name} was not compared with {name}: there is no report on {name}."
    return GateResult(gate=gate, passed=False, reason=reason, expected=f"a report on {name}", got="none")


def _unpaired(gate: str, candidate: Judged, name: str) -> GateResult:
    reason = f"{candidate.report.name} cannot be compared with {name}: they were judged on different samples."
    return GateResult(gate=gate, passed=False, reason=reason, expected="the same samples", got="others")


def _against(candidate: Judged, reference: Errors, difference: Interval) -> str:
    """`15 min ahead MAE 3.56 against 4.47 km/h, difference -0.91 [-1.02, -0.80] at 95%`."""
    report = candidate.report
    ours = error_text(candidate.errors.mean, report.judged_name)
    theirs = error_text(reference.mean, report.judged_name, report.unit)
    ahead = f"{ahead_text(report)} " if report.judged_min else ""
    low, high = _signed(candidate, difference.low), _signed(candidate, difference.high)
    span = f"{_signed(candidate, difference.value)} [{low}, {high}] at {difference.confidence:.0%}"
    return f"{ahead}{report.judged_name} {ours} against {theirs}, difference {span}"


def _signed(candidate: Judged, value: float) -> str:
    return f"{100 * value:+.2f} %" if candidate.report.judged_name == "error rate" else f"{value:+.3g}"
