"""The alarm of a product: at most one open, told to Prefect, closed when a retraining ended.

Its state is one object of the store, `alarms/<product>.json`, written before the event is emitted: killed in between,
the next look emits it. The event's id is the alarm's, so that it is the same event however often it is sent.
"""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from flows.workshop import Workshop
from infra.objects import NotThereError
from infra.servers import prefect_api

EVENT = "roadworthy.retraining.needed"
QUIET = timedelta(hours=24)  # after a retraining ended: its window still holds the hours before it
PATIENCE = timedelta(hours=24)  # an alarm that nobody acted on is told again, or passes where nothing is wrong any more
_NAMESPACE = uuid.UUID("6f1de0b4-5a43-4d6e-9a4b-3f6f0d1f7c11")


class Alarm(BaseModel):
    """`told`: when the event was last acknowledged by Prefect; `closed`: when and how it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    id: str
    opened: datetime
    reason: str
    told: datetime | None = None
    closed: datetime | None = None
    ended: str = ""

    @property
    def is_open(self) -> bool:
        return self.closed is None


def find_alarm(shop: Workshop, product: str) -> Alarm | None:
    """The newest alarm of a product, open or closed. Raises StorageError."""
    try:
        return Alarm.model_validate_json(shop.store.get_bytes(_key(product)))
    except NotThereError:
        return None


def consider(shop: Workshop, product: str, reasons: tuple[str, ...], at: datetime) -> Alarm | None:
    """The open alarm after a look that gave these reasons, none where all is well; opens, keeps or lets it pass."""
    known = find_alarm(shop, product)
    if known is not None and known.is_open:
        if not reasons and at - known.opened > PATIENCE:
            close_alarm(shop, product, "passed: nothing is wrong any more", at)
            return None
        return known
    if not reasons or (known is not None and known.closed is not None and at - known.closed < QUIET):
        return None
    made = Alarm(product=product, id=str(uuid.uuid5(_NAMESPACE, f"{product} {at.isoformat()}")), opened=at,
                 reason="; ".join(reasons))  # fmt: skip
    return _keep(shop, made)


def tell(shop: Workshop, alarm: Alarm, at: datetime, figures: dict[str, float]) -> Alarm:
    """Emit the event of an alarm that Prefect has not heard of, or not for long.

    Without a server the alarm stays untold, and the next look tells it. Raises httpx.HTTPStatusError.
    """
    if alarm.told is not None and at - alarm.told < PATIENCE:
        return alarm
    num = 0 if alarm.told is None else int((at - alarm.opened) / PATIENCE)
    event = {
        "id": alarm.id if num == 0 else str(uuid.uuid5(uuid.UUID(alarm.id), str(num))),
        "event": EVENT,
        "occurred": at.isoformat(),
        "resource": {"prefect.resource.id": f"roadworthy.product.{alarm.product}",
                     "prefect.resource.name": alarm.product},
        "related": [],
        "payload": {"product": alarm.product, "reason": alarm.reason, "alarm": alarm.id, "figures": figures},
    }  # fmt: skip
    if not _send(shop, event):
        return alarm
    return _keep(shop, alarm.model_copy(update={"told": at}))


def close_alarm(shop: Workshop, product: str, ended: str, at: datetime) -> Alarm | None:
    """End the open alarm of a product, if there is one; none is raised within `QUIET` of it."""
    known = find_alarm(shop, product)
    if known is None or not known.is_open:
        return known
    return _keep(shop, known.model_copy(update={"closed": at, "ended": ended}))


def _send(shop: Workshop, event: dict[str, Any]) -> bool:
    """Whether a server acknowledged it; False where none answers: an embedded home need not be up."""
    from flows.schedules import prefect_client  # Prefect: seconds

    try:
        with prefect_client(prefect_api(shop.config)) as client:
            client._client.post("/events", json=[event]).raise_for_status()
    except httpx.TransportError:
        return False
    return True


def _keep(shop: Workshop, alarm: Alarm) -> Alarm:
    shop.store.put_bytes(_key(alarm.product), json.dumps(alarm.model_dump(mode="json"), indent=1).encode())
    return alarm


def _key(product: str) -> str:
    return f"alarms/{product}.json"
