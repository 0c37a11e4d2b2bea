"""Every run and model that MLflow knows, deleted ones too: whose artifacts have an owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.tracking_store import every_page

if TYPE_CHECKING:
    from mlflow import MlflowClient


def known_ids(client: MlflowClient) -> set[str]:
    """Ids of all runs and logged models; what is deleted but not collected by MLflow still owns its artifacts."""
    from mlflow.entities import ViewType

    experiments = [one.experiment_id for one in every_page(client.search_experiments, view_type=ViewType.ALL)]
    found = set()
    for experiment in experiments:
        runs = every_page(client.search_runs, "", experiment_ids=[experiment], run_view_type=ViewType.ALL)
        found |= {run.info.run_id for run in runs} | _models(client, experiment)
    return found


def _models(client: MlflowClient, experiment: str) -> set[str]:
    found, token = set(), None
    while True:
        page = client.search_logged_models([experiment], page_token=token)
        found |= {model.model_id for model in page}
        token = page.token
        if not token:
            return found
