"""Runs a lifecycle from the command line: at once when nothing changed, through Prefect otherwise."""

import time
from collections.abc import Mapping
from typing import Any

from flows import console
from flows.finished import find_outcome
from flows.outcome import Outcome
from flows.prepare import build_recipe
from flows.workshop import open_workshop
from infra import settings as environment
from infra.servers import prefect_api
from infra.stack import Stack


def run_lifecycle(
    recipe: str, data: str | None = None, settings: Mapping[str, Any] | None = None, product: str = "",
    until: str = "package",
) -> Outcome:  # fmt: skip
    """The outcome of the lifecycle; what was done before is found, not done again."""
    began = time.perf_counter()
    shop = open_workshop()
    full = build_recipe(shop, recipe, data, settings, product)
    if until == "package" and (found := find_outcome(shop, full)) is not None:
        console.say(f"{full.product}: nothing changed since it was {found.verdict}")
        return found.model_copy(update={"seconds": {"total": round(time.perf_counter() - began, 3)}})
    return Outcome.model_validate(_flow(recipe, full.data.name, settings, full.product, until))


def run_steps(
    recipe: str, data: str | None, settings: Mapping[str, Any], product: str, until: str
) -> dict[str, dict[str, Any]]:
    """The steps up to "train" or "compress": key, folder, seconds and notes by name."""
    full = build_recipe(open_workshop(), recipe, data, settings, product)
    return _flow(recipe, full.data.name, settings, full.product, until)


def _flow(recipe: str, data: str, settings: Mapping[str, Any] | None, product: str, until: str) -> dict[str, Any]:
    """On the local Prefect server where it runs, else on one that lives as long as this process."""
    config = open_workshop().config
    running = {item.name for item in Stack(config).status() if item.state == "RUNNING"}
    where = {"PREFECT_API_URL": prefect_api(config)} if "prefect" in running else {}
    environment.apply(config, PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="WARNING", **where)
    console.say(f"{recipe} on {data}")
    from flows.lifecycle import lifecycle

    return lifecycle(recipe=recipe, data=data, settings=dict(settings or {}), product=product, until=until)
