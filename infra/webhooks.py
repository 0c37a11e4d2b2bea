"""MLflow's registry webhooks: ours on its server, and whether a delivery is from there.

Over MLflow's REST API, without the library: who only listens need not import it. Deliveries follow the Standard
Webhooks specification as MLflow has it: HMAC-SHA256 over id, timestamp and body.
"""

import base64
import hmac
from collections.abc import Mapping
from typing import Any

import httpx

from infra.settings import Settings

NAME = "roadworthy"
ACTIONS = ("CREATED", "DELETED")
EVENTS = [{"entity": "MODEL_VERSION_ALIAS", "action": action} for action in ACTIONS]
SIGNATURE, TIME, DELIVERY = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
MAX_AGE_S = 300.0
TIMEOUT_S = 10.0


class WebhookError(ValueError):
    """A delivery is not what MLflow would send; the message says what was expected."""


def sign(secret: str, delivery: str, seconds: str, body: bytes) -> str:
    """The signature of a delivery: `v1,` and base64 of the HMAC."""
    signed = f"{delivery}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """The id of a delivery that was signed with `secret` within the last minutes. Raises WebhookError."""
    delivery, seconds, given = (headers.get(name, "") for name in (DELIVERY, TIME, SIGNATURE))
    if not (delivery and seconds.isascii() and seconds.isdigit()):
        raise WebhookError(f"expected the headers {DELIVERY} and {TIME}, got {delivery[:40]!r} and {seconds[:40]!r}")
    if not hmac.compare_digest(sign(secret, delivery, seconds, body).encode(), given.encode()):
        raise WebhookError(f"expected a signature of this body in {SIGNATURE}, got another: it is not from our MLflow")
    if abs(now_s - int(seconds)) > MAX_AGE_S:
        raise WebhookError(
            f"expected a delivery of the last {MAX_AGE_S:.0f} s, got one of {now_s - int(seconds):.0f} s"
        )
    return delivery


def subscribe(config: Settings, url: str, secret: str) -> str:
    """Have MLflow tell `url` about every alias that is set or deleted; "created", "changed" or "kept".

    The secret cannot be read back, so it is written again with every change. Raises httpx.HTTPError.
    """
    wanted = {"name": NAME, "url": url, "events": EVENTS, "status": "ACTIVE"}
    with _client(config) as client:
        found = _asked(client, "GET", "webhooks", max_results=100).get("webhooks", [])
        ours = next((one for one in found if one["name"] == NAME), None)
        if ours is None:
            _asked(client, "POST", "webhooks", {**wanted, "secret": secret})
            return "created"
        if _same(ours, wanted):
            return "kept"
        _asked(client, "PATCH", f"webhooks/{ours['webhook_id']}", {**wanted, "secret": secret})
        return "changed"


def renew_secret(config: Settings, secret: str) -> None:
    """Give our webhook the secret that this home has now, should it be another one. Raises httpx.HTTPError."""
    with _client(config) as client:
        for one in _asked(client, "GET", "webhooks", max_results=100).get("webhooks", []):
            if one["name"] == NAME:
                _asked(client, "PATCH", f"webhooks/{one['webhook_id']}", {"secret": secret})


def shown_aliases(config: Settings, tag: str) -> dict[str, dict[str, int]]:
    """Alias and version, by registered model that bears `tag`. Raises httpx.HTTPError."""
    found: dict[str, dict[str, int]] = {}
    token = ""
    with _client(config) as client:
        while True:
            page = _asked(client, "GET", "registered-models/search", max_results=100, page_token=token)
            for model in page.get("registered_models", []):
                if tag in {one["key"] for one in model.get("tags", [])}:
                    aliases = model.get("aliases", [])
                    found[model["name"]] = {one["alias"]: int(one["version"]) for one in aliases}
            token = page.get("next_page_token", "")
            if not token:
                return found


def _same(ours: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    events = {(one["entity"], one["action"]) for one in ours.get("events", [])}
    is_same = all(ours.get(name) == wanted[name] for name in ("url", "status"))
    return is_same and events == {(one["entity"], one["action"]) for one in wanted["events"]}


def _client(config: Settings) -> httpx.Client:
    password = config.tracking_password
    auth = (config.tracking_user, password.get_secret_value()) if password else None
    return httpx.Client(base_url=f"{config.mlflow_uri}/api/2.0/mlflow/", auth=auth, timeout=TIMEOUT_S, trust_env=False)


def _asked(client: httpx.Client, method: str, path: str, body: Any = None, **params: Any) -> dict[str, Any]:
    answer = client.request(method, path, json=body, params={name: value for name, value in params.items() if value})
    answer.raise_for_status()
    record: dict[str, Any] = answer.json()
    return record
