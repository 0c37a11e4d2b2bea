"""Hears from MLflow that somebody moved an alias, and has Prefect look at it.

`python -m flows.hooks` receives its webhooks. A delivery is believed when it is signed, young and new. One that says
what the ledger says (our own moves) starts nothing. MLflow gives up after four tries, and anybody can delete a webhook:
so twice a minute the aliases are looked at anyway, and the webhook is put back. Neither MLflow nor Prefect is imported:
this process is small and starts at once.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple, dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows.workshop import open_workshop
from infra import webhooks
from infra.aliases import PRODUCT
from infra.ledger import Entry, Ledger, LedgerError
from infra.profile import read_secrets
from infra.promotion import standing
from infra.servers import prefect_api
from infra.settings import Settings
from infra.supervise import Program
from infra.webhooks import WebhookError

DEPLOYMENT = "promote-from-ui/alias"
PATH = "/mlflow"
MAX_BODY_BYTES = 65_536
SWEEP_S = 30.0
LATE_S = 60.0
AGAIN_S = 600  # an alias that is still not settled is tried again after so long
NUM_REMEMBERED = 1000  # deliveries

logger = logging.getLogger("roadworthy.hooks")


@dataclass(frozen=True)
class Wish:
    """An alias that is not where the ledger says; `version` None: it was deleted. `key`: the same wish, once."""

    product: str
    alias: str
    version: int | None
    key: str


def hooks(config: Settings) -> Program:
    """The receiver as a program of the group."""
    api, mlflow = prefect_api(config), config.mlflow_uri
    url = f"http://{config.hooks_host}:{config.hooks_port}"
    return Program(
        name="hooks",
        argv=(sys.executable, "-m", "flows.hooks"),
        url=url,
        port=config.hooks_port,
        ready_url=f"{url}/health",
        priority=350,
        needs=(f"{api}/health", f"{mlflow}/health"),
    )


@dataclass
class Receiver:
    """What one process of it knows. `start` asks Prefect for a run; it raises httpx.HTTPError when it cannot."""

    secret: str
    ledger: Ledger
    start: Callable[[Wish], None]
    clock: Callable[[], float] = time.time
    handled: dict[str, None] = field(default_factory=dict)

    def wish(self, product: str, alias: str, version: int | None) -> Wish | None:
        """What to look at; None where the ledger says the same, or the alias or the model is none of ours."""
        entries = self.ledger.entries(product)
        if not entries or alias not in standing(entries).aliases or version in self._ours(entries, alias):
            return None
        key = f"{product}:{alias}:{version}:{entries[-1].seq}:{int(self.clock() // AGAIN_S)}"
        return Wish(product, alias, version, key)

    def _ours(self, entries: Sequence[Entry], alias: str) -> set[int | None]:
        """Where the ledger put the alias within the last minute: a delivery may be that late. A sweep looks again."""
        num_recent = sum(one.moment.timestamp() > self.clock() - LATE_S for one in entries)
        before = {standing(entries[: len(entries) - back]).aliases[alias] for back in range(1, num_recent + 1)}
        return {standing(entries).aliases[alias], *(before - {None})}

    def receive(self, headers: Any, body: bytes) -> str:
        """One delivery: "started", "as the ledger says" or "known". Raises WebhookError, httpx.HTTPError."""
        delivery = webhooks.verify(self.secret, headers, body, self.clock())
        if delivery in self.handled:
            return "known"
        found = self.wish(*_read(body))
        if found is not None:
            self.start(found)
        self.handled[delivery] = None
        while len(self.handled) > NUM_REMEMBERED:
            self.handled.pop(next(iter(self.handled)))
        return "started" if found else "as the ledger says"

    def sweep(self, shown: dict[str, dict[str, int]]) -> int:
        """Start a run for every alias that is not where it belongs; how many. Raises httpx.HTTPError."""
        found = [
            self.wish(product, alias, aliases.get(alias))
            for product, aliases in shown.items()
            for alias in standing(self.ledger.entries(product)).aliases
        ]
        wishes = [one for one in found if one]
        for one in wishes:
            self.start(one)
        return len(wishes)


def _read(body: bytes) -> tuple[str, str, int | None]:
    """Product, alias and version of a delivery. Raises WebhookError."""
    try:
        data = json.loads(body)["data"]
        version = data.get("version")
        return str(data["name"]), str(data["alias"]), None if version is None else int(version)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WebhookError(f"expected an event about an alias, got {body[:80]!r}") from error


def starter(config: Settings) -> Callable[[Wish], None]:
    """Asks Prefect for a run of the deployment; the same wish gives the same run."""
    user, _, password = config.prefect_auth.get_secret_value().partition(":") if config.prefect_auth else ("", "", "")
    auth = (user, password) if user else None

    def start(wish: Wish) -> None:
        asked = {"product": wish.product, "alias": wish.alias, "version": wish.version}
        body = {"parameters": asked, "idempotency_key": wish.key, "state": {"type": "SCHEDULED"}}
        with httpx.Client(auth=auth, timeout=webhooks.TIMEOUT_S, trust_env=False) as client:
            found = client.get(f"{prefect_api(config)}/deployments/name/{DEPLOYMENT}").raise_for_status().json()
            url = f"{prefect_api(config)}/deployments/{found['id']}/create_flow_run"
            made = client.post(url, json=body).raise_for_status()
        if made.status_code == httpx.codes.CREATED:  # else it is the run of the same wish
            logger.info("%s: alias %s at version %s: run %s", *astuple(wish)[:3], made.json()["name"])

    return start


def application(receiver: Receiver, again: Callable[[], object] | None = None) -> Starlette:
    """The receiver as an ASGI application; `again` runs at once, and every half minute."""

    async def receive(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return JSONResponse({"error": f"expected at most {MAX_BODY_BYTES} bytes"}, 413)
        try:
            said = await asyncio.to_thread(receiver.receive, request.headers, body)
        except WebhookError as error:
            logger.warning("a delivery was refused: %s", error)
            return JSONResponse({"error": str(error)}, 401)
        except (httpx.HTTPError, LedgerError) as error:
            logger.warning("a delivery could not be taken: %s", error)
            return JSONResponse({"error": "Prefect or the ledger does not answer; try again"}, 503)
        return JSONResponse({"said": said}, 202)

    async def health(_request: Request) -> Response:
        return JSONResponse({"ok": True})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_every(SWEEP_S, again)) if again else None
        yield
        if task:
            task.cancel()

    routes = [Route(PATH, receive, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _every(seconds: float, again: Callable[[], object]) -> None:
    while True:
        try:
            await asyncio.to_thread(again)
        except (httpx.HTTPError, LedgerError) as error:
            logger.warning("the aliases could not be looked at: %s", error)
        await asyncio.sleep(seconds)


def main() -> None:
    """Listen on loopback until SIGTERM."""
    shop = open_workshop()
    config, secret = shop.config, read_secrets(shop.home).webhook.get_secret_value()
    receiver = Receiver(secret, shop.ledger, starter(config))
    url = f"http://{config.hooks_host}:{config.hooks_port}{PATH}"
    with suppress(httpx.HTTPError):  # the sweep says it
        webhooks.renew_secret(config, secret)

    def again() -> None:
        receiver.sweep(webhooks.shown_aliases(config, PRODUCT))
        if (said := webhooks.subscribe(config, url, secret)) != "kept":
            logger.info("the webhook of MLflow is %s", said)

    uvicorn.run(
        application(receiver, again), host=config.bind or config.hooks_host, port=config.hooks_port, log_level="warning"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    main()
