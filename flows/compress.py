"""Every candidate as a parcel: exported with parity, the small ones in int8 as well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flows.session import Session
from flows.steps import Done, key_of, once
from flows.train import Variant, best_fit, load, variants
from models import catalog

CODE = ("data", "tasks", "families", "compression", "artifact")
PARCEL = "parcel"
MODEL = "model.onnx"
NUM_PARITY = 64
CALIBRATION_BATCH = 32


def quantised(session: Session) -> list[tuple[str, str]]:
    """(name, origin) of every int8 candidate: of the better student and of the pruned one; else of the teacher."""
    recipe = session.recipe
    if not recipe.quantise.enabled or catalog.family(recipe.task, recipe.family).is_baseline:
        return []
    names = [variant.name for variant in variants(recipe)]
    students = [name for name in ("student_hard", "student_distilled") if name in names]
    found = [("student_int8" if students else "teacher_int8", best_fit(session, students or ["teacher"]))]
    return found + [(f"{name}_int8", name) for name in names if name.endswith("_pruned")]


def pack(session: Session, variant: Variant) -> Done:
    """Export a fitted variant, compare it with eager, pack it."""
    fitted = session.steps[f"fit {variant.name}"]
    owner = session.shop.config.watermark_owner
    key = key_of(fitted.key, variant.name, _contract(session), catalog.code_digest(*CODE), *([owner] if owner else []))

    def compute(folder: Path) -> dict[str, Any]:
        from flows.watermark import mark
        from models.artifact.export import export

        samples = session.snapshot.samples("val")
        inputs = samples.take(np.arange(min(NUM_PARITY, len(samples)))).inputs
        with session.tracked(f"export {variant.name}", key, {"variant": variant.name}) as run:
            exported = export(load(session, variant), inputs, folder / MODEL)
            if owner and not catalog.family(session.recipe.task, variant.family).is_baseline:
                mark(session.shop, folder / MODEL, owner)  # before it is quantised and judged: that is what is served
            notes = _pack(session, folder, variant.name, variant.family, fitted.notes["num_parameters"])
            figures = {"bytes": exported.num_bytes, "parity_difference": exported.difference}
            session.shop.tracking.log_metrics(run.run_id, figures)
            return notes

    session.watch(f"export {variant.name}", 1.0, "")
    return session.note(f"export {variant.name}", once(session.shop, "parcel", key, compute))


def pack_int8(session: Session, name: str, origin: str, packed: Done) -> Done:
    """An exported graph with fewer bits, int8 or half precision, calibrated on train samples where need be; packed."""
    recipe = session.recipe
    key = key_of(packed.key, name, recipe.quantise.model_dump(), catalog.code_digest(*CODE))

    def compute(folder: Path) -> dict[str, Any]:
        from models.compression.precision import reduce_precision

        with session.tracked(f"quantise {name}", key, {"variant": name, **recipe.quantise.model_dump()}) as run:
            method = recipe.quantise.method
            reduce_precision(method, packed.folder / MODEL, folder / MODEL, _calibration(session))
            family = catalog.family(recipe.task, recipe.family).name
            notes = _pack(session, folder, name, family, packed.notes["num_parameters"])
            session.shop.tracking.log_metrics(run.run_id, {"bytes": notes["bytes"]})
            return notes

    session.watch(f"quantise {name}", 1.0, f"of {origin}")
    return session.note(f"quantise {name}", once(session.shop, "parcel", key, compute))


def _pack(session: Session, folder: Path, name: str, family: str, num_parameters: int) -> dict[str, Any]:
    """The parcel in `folder/parcel`, opened once as a service would."""
    from models.artifact.parcel import build_parcel

    predictor = build_parcel(
        folder / PARCEL, folder / MODEL, session.snapshot, session.recipe, name, num_parameters, session.commit, family
    )
    return {"digest": predictor.manifest.digest(), "bytes": predictor.num_bytes, "num_parameters": num_parameters}


def _contract(session: Session) -> dict[str, Any]:
    """What of the recipe goes into a manifest."""
    return {
        "product": session.recipe.product,
        "judge": session.recipe.judge.judged_step,
        "recipe": session.recipe.digest(),
    }


def _calibration(session: Session) -> Iterator[dict[str, Any]]:
    samples = session.snapshot.samples("train", session.recipe.quantise.num_calibration)
    for start in range(0, len(samples), CALIBRATION_BATCH):
        yield samples.take(np.arange(start, min(start + CALIBRATION_BATCH, len(samples)))).inputs
