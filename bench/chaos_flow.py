"""A flow small enough to be killed often: tracked, registered and promoted, each once however often it is run.

It stands for the lifecycle: the same steps with checkpoints (`flows.steps.once`), the same tasks with their retries,
the same registry and tracking; only the fitting is left out.
"""

import json
import time
from pathlib import Path
from typing import Any

from prefect import flow

from bench.chaos_drivers import LIVE, PER_PRODUCT
from flows.lifecycle import step
from flows.live import live_model
from flows.steps import Done, key_of, once
from flows.workshop import Workshop, open_workshop
from infra.promotion import Evidence
from infra.refs import ModelRef

WORK_S = 1.5


def product_of(number: int) -> str:
    """The product that an errand of this number promotes."""
    return f"night{number // PER_PRODUCT}"


@flow(name="errand")
def errand(number: int) -> dict[str, Any]:
    """Compute, track, promote.

    1. compute: a folder in the object store, found again by its key
    2. track: a run with a metric, finished
    3. promote: a version with evidence, on the road
    """
    shop = open_workshop()
    done = step("compute", compute, shop, number)
    run_id = step("track", track, shop, number)
    ref = step("promote", put_on_the_road, shop, number, run_id)
    return {"step": done.address, "run": run_id, "version": ref.version}


def compute(shop: Workshop, number: int) -> Done:
    """A second and a half of work, done once."""

    def build(folder: Path) -> dict[str, Any]:
        time.sleep(WORK_S)
        (folder / "result.json").write_text(json.dumps({"number": number}))
        return {"number": number}

    return once(shop, "errand", key_of(number), build)


def track(shop: Workshop, number: int) -> str:
    """The run of this number, finished."""
    run = shop.tracking.lifecycle_run(product_of(number), key_of("errand", number), {"number": number})
    shop.tracking.log_metrics(run.run_id, {"value": float(number)})
    shop.tracking.finish(run.run_id)
    return run.run_id


def put_on_the_road(shop: Workshop, number: int, run_id: str) -> ModelRef:
    """The live parcel of the served product as a version of this errand's."""
    evidence = Evidence(f"errand{number}", passed=True)
    digest = live_model(shop, LIVE).digest
    ref = shop.registry.register(
        product_of(number), digest=digest, source=f"runs:/{run_id}/parcel", run_id=run_id, evidence=evidence
    )
    return shop.registry.promote(ref, evidence.digest)
