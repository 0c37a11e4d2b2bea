"""Keeps what a look found: record in the store, run and report in MLflow, and the alarm.

`monitoring/<product>/<time>.json`: every look, also one that found nothing. The record is written last, so a look that
was killed is made again and leaves no half of one.
"""

import json
import tempfile
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any

from flows.monitor_alarm import Alarm, consider
from flows.monitor_look import Look
from flows.workshop import Workshop
from infra.objects import NotThereError
from infra.tracking import STEP
from models.judging.drift_figure import drift_figure

MONITORING, MONITOR = "monitoring", "monitor"
HEAD = ("check", "score", "threshold", "features", "breached", "largest")


def keep(shop: Workshop, look: Look) -> tuple[dict[str, Any], Alarm | None, Path]:
    """Record a look; returns the record, the open alarm if there is one, and the figure's file (in HOME/cache)."""
    product, at = look.live.product, look.until
    alarm = consider(shop, product, look.report.reasons, at)
    folder = Path(tempfile.mkdtemp(prefix="monitor-", dir=_cache(shop)))
    figure = drift_figure(folder / "drift.png", look.report, look.reference, look.tables)
    (folder / "report.html").write_text(page(look, figure.read_bytes()))
    run_id = _track(shop, look, folder)
    record = {
        "product": product,
        "time": at.isoformat(),
        "verdict": look.report.status,
        "reasons": list(look.report.reasons),
        "alarm": alarm is not None,
        "alarm_id": alarm.id if alarm else "",
        "version": look.live.version,
        "digest": look.live.digest,
        "since": look.since.isoformat(),
        "requests": look.num_requests,
        "run_id": run_id,
        "report": json.loads(look.report.model_dump_json()),  # an infinite threshold is null
    }
    shop.store.put_bytes(f"{MONITORING}/{product}/{at:%Y%m%dT%H%M%S.%fZ}.json", json.dumps(record, indent=1).encode())
    return record, alarm, figure


def last_record(shop: Workshop, product: str) -> dict[str, Any] | None:
    """The newest look at a product, None where there was none."""
    keys = [one.key for one in shop.store.list(f"{MONITORING}/{product}")]
    try:
        found: dict[str, Any] = json.loads(shop.store.get_bytes(max(keys, default=f"{MONITORING}/{product}/none")))
    except NotThereError:
        return None
    return found


def _track(shop: Workshop, look: Look, folder: Path) -> str:
    """The look as a finished run of the product's experiment."""
    tracking, at = shop.tracking, look.until
    params = {
        "since": look.since.isoformat(), "until": at.isoformat(), "version": look.live.version,
        "alarms_per_year": look.report.alarms_per_year, "seasonality": look.report.seasonality,
    }  # fmt: skip
    tags = {STEP: MONITOR, "roadworthy.parcel": look.live.digest, "roadworthy.verdict": look.report.status,
            "mlflow.note.content": text(look)}  # fmt: skip
    run = tracking.lifecycle_run(
        look.live.product, f"monitor {at.isoformat()}", params, tags, name=f"monitor {at:%Y-%m-%d %H:%M}"
    )
    tracking.log_metrics(run.run_id, look.figures())
    tracking.log_figures(run.run_id, folder / "drift.png")
    tracking.log_files(run.run_id, folder / "report.html")
    tracking.finish(run.run_id)
    return run.run_id


def text(look: Look) -> str:
    """The look as Markdown."""
    report = look.report
    lines = [f"**{look.live.product}**, version {look.live.version}: **{report.status}**", ""]
    lines += [f"- {reason}" for reason in report.reasons]
    lines += ["", _facts(look), ""]
    if report.checks:
        lines += [f"| {' | '.join(HEAD)} |", "| --- | ---: | ---: | ---: | --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in rows(look)]
    return "\n".join(lines)


def rows(look: Look) -> list[list[str]]:
    """One row for each check, as `HEAD` names them."""
    return [
        [one.name, f"{one.score:.2f}", f"{one.threshold:.2f}", str(one.num_features),
         "yes" if one.is_breached else "no", one.shifts[0].said() if one.shifts else ""]
        for one in look.report.checks
    ]  # fmt: skip


def page(look: Look, png: bytes) -> str:
    """The look as one HTML page, its figure inside."""
    table = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(look))
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in look.report.reasons)
    title = f"{escape(look.live.product)}, version {look.live.version}: {look.report.status}"
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>body{{font:15px sans-serif;margin:2em}}"
        "td,th{padding:2px 10px;text-align:left;border-bottom:1px solid #ddd}</style>"
        f"<h1>{title}</h1><ul>{reasons}</ul><p>{escape(_facts(look))}</p><table><tr>{head}</tr>{table}</table>"
        f'<p><img alt="checks" src="data:image/png;base64,{b64encode(png).decode()}"></p>'
    )


def _facts(look: Look) -> str:
    report = look.report
    seasonal = "" if report.seasonality in ("", "none") else f", by {report.seasonality}"
    error = report.figures
    live = f" Error {error['error_live']:.3g}, usual {error['error_usual']:.3g}." if "error_live" in error else ""
    return (
        f"{look.num_requests} requests from {look.since:%Y-%m-%d %H:%M} to {look.until:%Y-%m-%d %H:%M} UTC, "
        f"{report.hours} hours covered; reference {report.reference_hours} hours{seasonal}; thresholds for "
        f"{report.alarms_per_year:g} false alarms a year.{live}"
    )


def _cache(shop: Workshop) -> Path:
    folder = shop.home / "cache" / MONITOR
    folder.mkdir(parents=True, exist_ok=True)
    return folder
