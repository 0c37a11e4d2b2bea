"""Looks every hour at what was captured, against what the live models were trained on.

A breach opens an alarm, which asks for a retraining.

Each product is looked at on its own: one whose snapshot is gone fails its task, and the others are looked at.
"""

import shutil
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from flows.live import live_products
from flows.options import UsageError
from flows.workshop import Workshop, now, open_workshop

if TYPE_CHECKING:
    from flows.monitor_look import Look

MAX_IMAGE_BYTES = 400_000


@flow(name="monitor", flow_run_name="monitor {product}")
def monitor(product: str = "", since: str = "24h", alarms_per_year: float = 2.0) -> list[dict[str, Any]]:
    """The captures of all live products, or of one, against their training references.

    1. delayed labels: is the live version worse than it was judged? 2. inputs and forecasts: have they drifted?
    3. the record, in the store and in MLflow, whatever it says 4. a breach opens an alarm: an event for Prefect
    """
    shop = open_workshop()
    hours = hours_of(since)
    names = [product] if product else live_products(shop)
    states = [_looked(name)(shop, name, hours, alarms_per_year, return_state=True) for name in names]
    return [state.result() for state in states]


def _looked(name: str) -> Any:
    return task(name=f"look {name}", retries=1, retry_delay_seconds=5, retry_condition_fn=_is_transient)(look)


def _is_transient(task: Any, run: Any, state: Any) -> bool:
    from flows.publish import is_transient  # torch and SciPy: seconds, and only after a failure

    return is_transient(task, run, state)


def look(shop: Workshop, product: str, hours: float, alarms_per_year: float) -> dict[str, Any]:
    """One product: judged, recorded, shown, and told to whoever retrains."""
    from flows.monitor_alarm import tell
    from flows.monitor_look import look_at
    from flows.monitor_record import keep  # Matplotlib

    at = now()
    found = look_at(shop, product, hours, at, alarms_per_year)
    record, alarm, figure = keep(shop, found)
    show(found, figure)
    if alarm is not None:
        tell(shop, alarm, at, found.figures())
    shutil.rmtree(figure.parent)
    return record


def show(found: "Look", figure: Path) -> None:
    """The look as artifacts of the flow run."""
    from flows.monitor_record import HEAD, rows, text

    key = found.live.product.replace("_", "-")
    create_markdown_artifact(text(found), key=f"monitor-{key}", description=found.report.status)
    if found.report.checks:
        table = [dict(zip(HEAD, row, strict=True)) for row in rows(found)]
        create_table_artifact(table, key=f"checks-{key}", description=found.report.status)
    png = figure.read_bytes()
    if found.report.reasons and len(png) < MAX_IMAGE_BYTES:  # Prefect keeps it in its database; MLflow has every one
        address = f"data:image/png;base64,{b64encode(png).decode()}"
        create_image_artifact(address, key=f"drift-{key}", description=found.report.status)


def hours_of(span: str, option: str = "--since") -> float:
    """A span such as 24h, 90m or 7d in hours. Raises UsageError."""
    units = {"m": 1 / 60, "h": 1.0, "d": 24.0}
    number, unit = span[:-1], span[-1:]
    if unit not in units or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise UsageError(f"{option} {span}: expected a span such as 24h, 90m or 7d")
    return float(number) * units[unit]
