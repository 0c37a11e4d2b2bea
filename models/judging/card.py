"""The model card: what a reviewer needs to decide, on one page of markdown."""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from models.artifact.manifest import Manifest
from models.data.card import Frozen
from models.data.snapshot import Manifest as DataManifest
from models.judging.closed_loop import ClosedLoop
from models.judging.gates import Verdict
from models.judging.loop_views import loop_table
from models.judging.record import CandidateReport, ahead_text
from models.judging.select import Choice, bytes_text, error_text


class Lineage(Frozen):
    """Where a candidate comes from."""

    run_id: str
    code_commit: str
    recipe: str
    recipe_digest: str
    parcel_digest: str


def model_card(
    manifest: Manifest,
    verdict: Verdict,
    choice: Choice,
    reports: Sequence[CandidateReport],
    data: DataManifest,
    lineage: Lineage,
    fold_losses: Sequence[float] = (),
    loop: ClosedLoop | None = None,
) -> str:
    """Verdict, sentence, candidates on the test split, gates, folds, data, lineage, use and limits; markdown.

    loop: what the candidate reached in the simulator, where its task is driven.
    fold_losses: of the recipe's model on each held-back fold of the train split, in the unit of its training loss.
    """
    passed = "passed every gate" if verdict.passed else "did not pass its gates and is not promoted"
    parts = [
        f"# {manifest.product}: {verdict.candidate}",
        f"**Verdict: {'PASSED' if verdict.passed else 'REFUSED'}.** {verdict.candidate} {passed}.",
        choice.sentence,
        "" if verdict.passed else "\n".join(f"- {reason}" for reason in verdict.reasons),
        "## Candidates\n\n" + candidates_table(reports, choice.name),
        "## Gates\n\n" + gates_table(verdict),
        "## Band\n\n" + bands if (bands := band_table(reports, choice.name)) else "",
        "## Closed loop\n\n" + loop_table(loop) if loop else "",
        "## Folds\n\n" + _folds(fold_losses) if fold_losses else "",
        "## Data\n\n" + _facts(_data(data)),
        "## Lineage\n\n" + _facts(_lineage(lineage, data)),
        "## Intended use\n\n" + _use(manifest),
        "## Limits\n\n" + _limits(manifest, data),
        f"## How to reproduce\n\n{_reproduce(manifest, lineage, data)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def candidates_table(reports: Sequence[CandidateReport], chosen: str) -> str:
    """A markdown table of all candidates, the best first, the chosen one in bold."""
    is_forecast = reports[0].task == "forecast"
    first = reports[0]
    errors = (
        [f"MAE {ahead_text(first)}, {first.unit}", "interval", "RMSE", "MAE pooled"]
        if is_forecast
        else ["error rate", "interval", "macro F1"]
        if first.task == "classify"
        else [f"{first.judged_name} {first.unit}".rstrip(), "interval", *(item.name for item in first.metrics)]
    )
    heads = ["candidate", *errors, "size", "parameters", "p50 ms", "p99 ms", "rows/s"]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for report in sorted(reports, key=lambda report: report.judged.value):
        mark = "**" if report.name == chosen else ""
        cells = [report.name, *_CELLS.get(report.task, _sample_cells)(report), *_cost_cells(report)]
        lines.append([f"{mark}{cell}{mark}" for cell in cells])
    note = f"On the {first.split} split, {first.num_samples} samples; intervals at {first.judged.confidence:.0%}."
    if is_forecast:
        note += f" Protocol {first.protocol}; figures are {first.convention}, unless they say pooled."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}"


def band_table(reports: Sequence[CandidateReport], chosen: str) -> str:
    """A markdown table of what the chosen forecast's band held; empty where it has none."""
    report = next(report for report in reports if report.name == chosen)
    if not report.bands:
        return ""
    heads = ["band", "where", "held", f"mean width, {report.unit}", f"pinball loss, {report.unit}", "values"]
    lines = [heads, ["---", "---", "---:", "---:", "---:", "---:"]]
    for band in report.bands:
        where = f"{band.name} ahead" if band.kind == "step" else f"forecast says {band.name}"
        figures = [f"{band.coverage:.1%}", f"{band.width:.2f}", f"{band.pinball:.3f}", f"{band.num_values:,}"]
        lines.append([f"{band.promised:.0%}", where, *figures])
    note = f"On the {report.split} split; the band was calibrated on validation."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}"


def gates_table(verdict: Verdict) -> str:
    """A markdown table of the gates."""
    lines = ["| gate | | what was seen |", "| --- | --- | --- |"]
    lines += [f"| {item.gate} | {'pass' if item.passed else '**FAIL**'} | {item.reason} |" for item in verdict.results]
    return "\n".join(lines)


def _folds(losses: Sequence[float]) -> str:
    each = ", ".join(f"{loss:.4g}" for loss in losses)
    spread = f"mean {fmean(losses):.4g}, sd {pstdev(losses):.2g}"
    return f"Loss of the recipe's model on {len(losses)} held-back folds: {spread} ({each})."


def _forecast_cells(report: CandidateReport) -> list[str]:
    judged = report.judged
    interval = f"{judged.low:.2f} to {judged.high:.2f}"
    return [f"{judged.value:.2f}", interval, f"{report.value('rmse'):.2f}", f"{report.value('mae', 'pooled'):.2f}"]


def _image_cells(report: CandidateReport) -> list[str]:
    judged = report.judged
    ends = (error_text(value, report.judged_name) for value in (judged.low, judged.high))
    return [error_text(judged.value, report.judged_name), " to ".join(ends), f"{report.value('f1_macro'):.3f}"]


def _sample_cells(report: CandidateReport) -> list[str]:
    judged = report.judged
    figures = [f"{item.value:.3g} {item.unit}".rstrip() for item in report.metrics]
    return [f"{judged.value:.3g}", f"{judged.low:.3g} to {judged.high:.3g}", *figures]


_CELLS = {"forecast": _forecast_cells, "classify": _image_cells}


def _cost_cells(report: CandidateReport) -> list[str]:
    cost = report.cost
    latency = [f"{cost.latency_p50_ms:.3f}", f"{cost.latency_p99_ms:.3f}"]
    return [bytes_text(cost.num_bytes), f"{cost.num_parameters:,}", *latency, f"{cost.rows_per_second:,.0f}"]


def _data(data: DataManifest) -> dict[str, str]:
    facts = {
        "data set": f"{data.title} ({data.name})",
        "source": data.source,
        "licence": data.licence,
        "span": data.span,
        "missing": f"{data.missing_share:.2%}",
        "snapshot": f"`{data.digest}`",
    }
    if data.task == "forecast":
        facts["sensors"] = f"{len(data.nodes)}, every {data.cadence_min:g} min: {', '.join(data.channels)}"
    elif data.task == "classify":
        facts["classes"] = ", ".join(data.classes)
    else:
        facts["inputs"] = "; ".join(f"{spec.name} {list(spec.shape)} {spec.unit}".rstrip() for spec in data.inputs)
    splits = ", ".join(f"{name} {stop - start}" for name, (start, stop) in data.splits.items())
    return {**facts, "splits": f"{splits} of {data.num_rows}"}


def _lineage(lineage: Lineage, data: DataManifest) -> dict[str, str]:
    return {
        "run": f"`{lineage.run_id}`",
        "code": f"`{lineage.code_commit}`",
        "recipe": f"{lineage.recipe}, `{lineage.recipe_digest}`",
        "data": f"`{data.digest}`",
        "parcel": f"`{lineage.parcel_digest}`",
    }


_PURPOSES = {
    "regress": "Tells one quantity of a row of a table.",
    "localise": "Tells where a vehicle is from its last, noisy fixes.",
    "detect": "Tells at which stations an incident disturbs the traffic; an alarm is a hint for an operator.",
    "route": "Tells the travel times of a network's edges, from which routes are planned.",
    "control": "Tells which phase a signalised junction should show; yellow and minimum green stay with the signal.",
}


def _use(manifest: Manifest) -> str:
    if manifest.task == "classify":
        return (
            f"Names one of {len(manifest.classes)} classes for an image of {manifest.image_shape} values from 0 to 1."
        )
    if manifest.output is not None:
        inputs = ", ".join(spec.description or spec.name for spec in manifest.inputs)
        return f"{_PURPOSES[manifest.task]} From: {inputs}. No safety function may rest on it alone."
    past_min = manifest.past_steps * manifest.cadence_min
    ahead_min = manifest.horizon_steps * manifest.cadence_min
    target = f"{manifest.channels[0]} ({manifest.units[0]}) at {len(manifest.nodes)} sensors"
    return (
        f"Forecasts {target} up to {ahead_min:g} min ahead from the last {past_min:g} min. "
        "For information and planning; no safety function may rest on it alone."
    )


def _limits(manifest: Manifest, data: DataManifest) -> str:
    lines = [
        f"- Trained on {data.span or 'the span of the snapshot'}; seasons and works outside it were never seen.",
        "- Judged on the last, held-back part of the same source; other places need their own evidence.",
    ]
    if manifest.task == "forecast":
        share = f"{manifest.max_missing_share:.0%}"
        lines.append(
            f"- Requests with more than {share} of their values missing, or with values out of range, are refused."
        )
    return "\n".join(lines)


def _reproduce(manifest: Manifest, lineage: Lineage, data: DataManifest) -> str:
    command = f"roadworthy run {lineage.recipe} --data {data.name} --product {manifest.product}"
    commands = f"```\ngit checkout {lineage.code_commit}\n{command}\n```"
    return f"{commands}\n\nOn the same machine the parcel has the digest above."


def _facts(facts: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value} |" for name, value in facts.items() if value]
    return "\n".join(["| | |", "| --- | --- |", *lines])
