"""Gathers k-fold evidence for the recipe's model.

The folds are blocked in time for forecasts and stratified by class for images.
"""

from dataclasses import asdict
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from flows.session import Session
from flows.steps import Done, key_of, once
from flows.train import CODE
from models import catalog


def cross_validated(session: Session) -> Done:
    """Train the recipe's model on every fold of the train split; each fold resumes after a kill."""
    recipe, snapshot = session.recipe, session.snapshot
    key = key_of(session.prepared.ref.digest, recipe.model_dump(mode="json"), catalog.code_digest(*CODE))

    def compute(folder: Path) -> dict[str, Any]:
        from models.training.build import build_network
        from models.training.folds import cross_validate
        from models.training.objective import TaskLoss

        card, scaler = catalog.family(recipe.task, recipe.family), snapshot.manifest.scaler
        objective = TaskLoss(recipe.task, recipe.train.loss, scaler)
        gap = recipe.data.past_steps + recipe.data.horizon_steps
        results = []
        with session.tracked("folds", key, recipe.train.model_dump()) as run:
            build = lambda: build_network(card, snapshot.shape, recipe.model, scaler, recipe.train.seed)  # noqa: E731
            samples = snapshot.samples("train")
            for fold in cross_validate(recipe.task, build, objective, samples, recipe.train, folder, gap):
                session.watch("folds", fold.number / fold.num_folds, f"loss {fold.val_loss:.4f}")
                results.append(asdict(fold))
            losses = [fold["val_loss"] for fold in results]
            figures = {"fold_loss_mean": mean(losses), "fold_loss_sd": pstdev(losses)}
            session.shop.tracking.log_metrics(run.run_id, figures)
            session.shop.tracking.log_table(run.run_id, "folds", results)
            return {"folds": results, **figures}

    return session.note("folds", once(session.shop, "folds", key, compute))
