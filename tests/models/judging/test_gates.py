"""Every gate passes and fails for its own reason, in a sentence with numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot
from models.judging import card, gates
from models.judging.bootstrap import Errors, interval
from models.judging.gates import GateResult, Verdict
from models.judging.measure import Cost
from models.judging.record import CandidateReport, Judged, Metric
from models.judging.select import Candidate, choose
from models.recipe import JudgeRecipe

RULES = JudgeRecipe(max_latency_ms=5, max_bytes=10_000)  # type: ignore[call-arg]
COST = Cost(num_parameters=10, num_bytes=5_000, latency_p50_ms=0.1, latency_p99_ms=0.2, rows_per_second=1e5)
NOISE = np.random.default_rng(0).exponential(1.0, 240)


def forecast(name: str, mean: float, seed: int = 0, **changes: object) -> Judged:
    """A candidate whose errors share most of their noise with every other's."""
    own = 0.05 * np.random.default_rng(seed).normal(size=240)
    errors = Errors(mean + NOISE + own, np.ones(240), np.arange(240) // 24, "blocks")
    found = interval(errors, 0.95, 200)
    facts: dict[str, object] = {
        "name": name, "task": "forecast", "split": "test", "parcel_digest": f"parcel-{name}", "trained_on": "snapshot",
        "judged_on": "snapshot", "num_samples": 240, "judged_name": "MAE", "judged": found, "convention": "at-horizon",
        "unit": "km/h", "judged_step": 3, "judged_min": 15, "cost": COST, "golden_difference": 0.0,
        "golden_tolerance": 1e-3,
        "metrics": [
            Metric(name=metric, value=found.value, convention=convention)
            for metric in ("mae", "rmse") for convention in ("at-horizon", "pooled")
        ],
    }  # fmt: skip
    return Judged(CandidateReport.model_validate({**facts, **changes}), errors)


REFERENCES = {
    "last_value": forecast("last_value", 3, 1),
    "profile": forecast("profile", 2.5, 2),
    "linear": forecast("linear", 2, 3),
}


def gate(verdict: Verdict, name: str) -> GateResult:
    return next(result for result in verdict.results if result.gate == name)


def test_better_candidate_passes_every_gate() -> None:
    verdict = gates.judge(forecast("student", 1.5, 4), REFERENCES, forecast("old", 1.6, 5), RULES)
    assert verdict.passed and all(result.passed for result in verdict.results)
    assert [result.gate for result in verdict.results] == [
        "beats_last_value", "beats_profile", "not_worse_than_linear", "not_worse_than_champion", "latency_budget",
        "bytes_budget", "golden_reproduced", "data_contract_kept",
    ]  # fmt: skip
    reason = gate(verdict, "beats_last_value").reason
    assert reason.startswith("student beats last_value: 15 min ahead MAE 2.62 against 4.11 km/h, difference -1.49 [")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@pytest.mark.parametrize("name", ["last_value", "profile"])
def test_baseline_cannot_beat_itself(name: str) -> None:
    verdict = gates.judge(REFERENCES[name], REFERENCES, None, RULES)
    assert not verdict.passed and not gate(verdict, f"beats_{name}").passed
    assert any(f"{name} does not beat {name}" in reason for reason in verdict.reasons)


def test_linear_candidate_is_not_worse_than_linear() -> None:
    assert gates.judge(REFERENCES["linear"], REFERENCES, None, RULES).passed


def test_candidate_worse_than_linear_beyond_the_interval_fails() -> None:
    verdict = gates.judge(forecast("student", 2.2, 4), REFERENCES, None, RULES)
    assert not verdict.passed and len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("student is worse than linear: ")


def test_champion_that_is_live_already_passes_and_a_better_one_stops_the_candidate() -> None:
    student = forecast("student", 1.5, 4)
    assert gate(gates.judge(student, REFERENCES, student, RULES), "not_worse_than_champion").got == "is the champion"
    beaten = gates.judge(student, REFERENCES, forecast("old", 1.2, 5), RULES)
    assert not beaten.passed and "is worse than the champion (old)" in beaten.reasons[0]
    assert gate(gates.judge(student, REFERENCES, None, RULES), "not_worse_than_champion").got == "no champion"


def test_missing_or_other_samples_of_a_reference_fail() -> None:
    student = forecast("student", 1.5, 4)
    verdict = gates.judge(student, {**REFERENCES, "linear": _shortened(REFERENCES["linear"])}, None, RULES)
    assert "judged on different samples" in gate(verdict, "not_worse_than_linear").reason and not verdict.passed
    verdict = gates.judge(student, {}, None, RULES)
    assert len(verdict.reasons) == 3 and "there is no report on last_value" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        (
            {"cost": COST.model_copy(update={"latency_p99_ms": 7.5})},
            "latency_budget",
            "p99 7.5 ms for one request, allowed 5",
        ),
        ({"cost": COST.model_copy(update={"num_bytes": 20_000})}, "bytes_budget", "20 kB, allowed 10 kB"),
        ({"golden_difference": 0.02}, "golden_reproduced", "2.000% off of the answer's scale, allowed 0.1%"),
        ({"trained_on": "another"}, "data_contract_kept", "trained on one snapshot, judged on snapshot"),
    ],
)
def test_each_of_the_other_gates_stops_a_candidate(changes: dict[str, object], name: str, words: str) -> None:
    verdict = gates.judge(forecast("student", 1.5, 4, **changes), REFERENCES, None, RULES)
    assert [result.gate for result in verdict.results if not result.passed] == [name]
    assert words in verdict.reasons[0]


def test_classifier_must_beat_the_commonest_class_and_hold_against_logistic() -> None:
    labels = np.repeat([0, 1, 2], [60, 50, 40])

    def classifier(name: str, num_wrong: int) -> Judged:
        wrong = np.zeros(150)
        wrong[::5][:num_wrong] = 1
        return _classifier(name, Errors(wrong, np.ones(150), labels, "strata"))

    logistic = {"logistic": classifier("logistic", 10)}
    passed = gates.judge(classifier("cnn", 3), logistic, None, RULES)
    assert passed.passed and "cnn beats majority: error rate 2.00 % against 60.00 %" in passed.results[0].reason
    assert not gates.judge(classifier("cnn", 29), logistic, None, RULES).passed
    majority = _classifier("constant", Errors((labels != 0).astype(float), np.ones(150), labels, "strata"))
    assert not gate(gates.judge(majority, logistic, None, RULES), "beats_majority").passed


def test_card_holds_what_a_reviewer_needs(
    pack_toy: Callable[..., tuple[Path, Predictor]], toy_snapshot: Snapshot
) -> None:
    judged = [*REFERENCES.values(), forecast("student", 1.5, 4)]
    reports = [one.report for one in judged]
    choice = choose(
        [Candidate(r.name, r.judged.value, r.cost.num_bytes, 1) for r in reports],
        tolerance=0.01,
        max_bytes=10**6,
        max_latency_ms=50,
    )
    lineage = card.Lineage(
        run_id="run", code_commit="abc", recipe="forecast/stid", recipe_digest="r", parcel_digest="p"
    )
    manifest = pack_toy()[1].manifest
    for candidate, word in ((judged[-1], "PASSED"), (judged[0], "REFUSED")):
        verdict = gates.judge(candidate, REFERENCES, None, RULES)
        page = card.model_card(manifest, verdict, choice, reports, toy_snapshot.manifest, lineage)
        assert f"**Verdict: {word}.**" in page and choice.sentence in page
        assert "| **student** | **2.6" in page and "MAE 15 min ahead, km/h" in page
        assert toy_snapshot.manifest.digest in page and "roadworthy run forecast/stid --data toy" in page
        assert "## Folds" not in page
    page = card.model_card(manifest, verdict, choice, reports, toy_snapshot.manifest, lineage, [0.1, 0.3])
    assert "2 held-back folds: mean 0.2, sd 0.1" in page


def _shortened(judged: Judged) -> Judged:
    errors = judged.errors
    return Judged(judged.report, Errors(errors.sums[:-1], errors.counts[:-1], errors.groups[:-1], "blocks"))


def _classifier(name: str, errors: Errors) -> Judged:
    changes = {"task": "classify", "judged_name": "error rate", "unit": "", "judged_min": 0, "judged_step": 0}
    report = forecast(name, 1.0).report.model_copy(update={**changes, "judged": interval(errors, 0.95, 200)})
    return Judged(report, errors)


@pytest.mark.parametrize(("value", "passed"), [(4.9, True), (5.1, False)])
def test_incidents_are_not_bought_with_false_alarms(value: float, passed: bool) -> None:
    name = "false_alarms_per_100_station_hours"
    metrics = [Metric(name=name, value=value, convention="at the validation threshold")]
    candidate = forecast("cnn", 1.0, 4, task="detect", metrics=metrics)
    found = gate(gates.judge(candidate, {}, None, RULES), "false_alarm_budget")
    assert found.passed == passed
    assert f"{value:.3g} false alarms per 100 station-hours, allowed 5 per 100 station-hours" in found.reason
