"""A retraining: the live version's recipe on today's data, through its gates, onto the road.

Started by the monitor's alarm, by the schedule, or by hand. However it ends is recorded and closes the alarm; what was
killed leaves the alarm open, and goes on from its checkpoints when it is run again.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect import flow

from flows.monitor_alarm import close_alarm
from flows.on_the_road import on_the_road
from flows.options import UsageError
from flows.steps import fetch_folder
from flows.workshop import Workshop, now, open_workshop
from infra.objects import NotThereError
from infra.promotion import standing
from infra.refs import ModelRef
from models.recipe import Recipe

RETRAININGS = "retrainings"
EVALUATION = "roadworthy.evaluation"
PARTS = ("data", "train", "distil", "prune", "blend", "quantise", "improve", "evaluate", "judge", "model", "student")
LEFT_OUT = {"data.name", "train.device"}  # the first is an argument; the second is this machine's


@flow(name="retrain", flow_run_name="retrain {product}")
def retrain(
    product: str,
    reason: str = "",
    recipe: str = "",
    data: str = "",
    settings: dict[str, Any] | None = None,
    shadow_s: float = 30.0,
    dwell_s: float = 30.0,
) -> dict[str, Any]:
    """A new version of a product from the data that there is now.

    1. recipe, data set and settings: as given, else those of the live version
    2. the lifecycle: prepare, train, compress, evaluate, gates, promote, package
    3. promoted and deployed: shadow, canary, live; turned back on the road: the registry goes back too
    4. the record, and the alarm is closed
    """
    from flows.lifecycle import lifecycle  # torch: seconds

    shop = open_workshop()
    with recorded(shop, product, reason) as record:
        before = standing(shop.ledger.entries(product)).live
        wanted = recipe_of(shop, before) if before and not (recipe and data) else None
        if wanted is None and not (recipe and data):
            raise UsageError(f"product '{product}': nothing is live; name what to train: recipe and data set")
        own = dotted(wanted) if wanted and recipe in ("", wanted.name) else {}
        outcome = lifecycle(
            recipe=recipe or (wanted.name if wanted else ""), data=data or (wanted.data.name if wanted else ""),
            settings={**own, **(settings or {})}, product=product,
        )  # fmt: skip
        record |= {name: outcome[name] for name in ("recipe", "data", "data_digest", "candidate", "reasons", "run_id")}
        record["verdict"] = _verdict(outcome, before)
        record["version"] = outcome["model_version"]
        if outcome["promoted"]:
            record["road"] = on_the_road(shop, product, {"shadow_s": shadow_s, "dwell_s": dwell_s})
            if record["road"]["verdict"] == "rolled back":
                record["verdict"] = "turned back"
    return record


def _verdict(outcome: Mapping[str, Any], before: ModelRef | None) -> str:
    if not outcome["promoted"]:
        return str(outcome["verdict"])
    is_same = before is not None and before.digest == outcome["model_digest"]
    return "unchanged" if is_same else "promoted"


def recipe_of(shop: Workshop, live: ModelRef) -> Recipe | None:
    """The recipe of a version's registered evaluation; None where it has none."""
    address = shop.registry.version_tags(live).get(EVALUATION)
    if address is None:
        return None
    try:
        record = json.loads((fetch_folder(shop, address) / "evaluation.json").read_text())
    except NotThereError:
        return None
    return Recipe.model_validate(record["recipe"])


def dotted(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the settings that make it again, whatever the defaults are by then."""
    tree = recipe.model_dump(mode="json")
    flat = {f"{part}.{name}": value for part in PARTS for name, value in (tree[part] or {}).items()}
    return {name: value for name, value in flat.items() if name not in LEFT_OUT}


@contextmanager
def recorded(shop: Workshop, product: str, reason: str) -> Iterator[dict[str, Any]]:
    """`retrainings/<product>/<time>.json` with how the block ended; the alarm is closed either way."""
    began, at = time.monotonic(), now()
    record: dict[str, Any] = {"product": product, "reason": reason, "began": at.isoformat(), "verdict": "failed"}
    try:
        yield record
    finally:
        ended = now()
        record |= {"ended": ended.isoformat(), "seconds": round(time.monotonic() - began, 1)}
        key = f"{RETRAININGS}/{product}/{at:%Y%m%dT%H%M%S.%fZ}.json"
        shop.store.put_bytes(key, json.dumps(record, indent=1, default=str).encode())
        close_alarm(shop, product, record["verdict"], ended)
