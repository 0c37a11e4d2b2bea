"""Runs a lifecycle from the command line: at once if nothing changed, else through Prefect."""

import time
from collections.abc import Mapping
from typing import Any

from flows import console
from flows.finished import find_outcome
from flows.options import UsageError
from flows.outcome import Outcome
from flows.prepare import build_recipe
from flows.workshop import open_workshop
from infra import settings as environment
from infra.after import answers
from infra.processes import marks, stop_marked
from infra.servers import prefect_api
from infra.settings import Settings
from infra.stack import Stack
from infra.tracking import is_dead, this_process
from models.recipe import Recipe

RUN = "ROADWORTHY_RUN"  # in the environment of a run's children: HOME and the process that started them


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
    _refuse_early(full)
    return Outcome.model_validate(_flow(recipe, full.data.name, settings, full.product, until))


def run_steps(
    recipe: str, data: str | None, settings: Mapping[str, Any], product: str, until: str
) -> dict[str, dict[str, Any]]:
    """The steps up to "train" or "compress": key, folder, seconds and notes by name."""
    full = build_recipe(open_workshop(), recipe, data, settings, product)
    _refuse_early(full)
    return _flow(recipe, full.data.name, settings, full.product, until)


def _refuse_early(recipe: Recipe) -> None:
    """What the flow would refuse in its first step, without Prefect's words around it."""
    from flows.closed_loop import need_simulator

    need_simulator(recipe)


def sweep(config: Settings) -> int:
    """End what a run killed in this HOME left behind, Prefect's own server and services; returns how many processes."""
    left = [mark for mark in marks(RUN) if mark.startswith(f"{config.folder}|") and is_dead(mark.rpartition("|")[2])]
    return sum(stop_marked(3.0, **{RUN: mark}) for mark in left)


def begin_flow(title: str) -> None:
    """Before a flow is imported: the local Prefect server where one runs, else one that lives as long as we do."""
    config = open_workshop().config
    where = {"PREFECT_API_URL": prefect_api(config)} if _has_prefect(config) else {}
    mark = {RUN: f"{config.folder}|{this_process()}"}
    environment.apply(config, PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="WARNING", **where, **mark)
    sweep(config)
    console.say(title)


def _has_prefect(config: Settings) -> bool:
    """Whether a Prefect server of this home runs. In a services home one must: raises UsageError."""
    if not config.is_services:
        return any(item.name == "prefect" and item.state == "RUNNING" for item in Stack(config).status())
    if not answers(f"{prefect_api(config)}/health"):
        raise UsageError(f"{prefect_api(config)}: expected this home's Prefect server, got no answer; roadworthy up")
    return True


def _flow(recipe: str, data: str, settings: Mapping[str, Any] | None, product: str, until: str) -> dict[str, Any]:
    begin_flow(f"{recipe} on {data}")
    from flows.lifecycle import lifecycle

    return lifecycle(recipe=recipe, data=data, settings=dict(settings or {}), product=product, until=until)
