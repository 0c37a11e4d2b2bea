"""A workshop whose tracking writes nothing: for workers, which need the store alone.

The search's own process logs every point when it is told of it, so no worker, here or on another machine, has to reach
MLflow.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from flows.workshop import Workshop
from infra import settings as environment
from infra.settings import Settings
from infra.tracking import TrackedRun, Tracking


class QuietTracking(Tracking):
    """Runs that are nowhere."""

    def __init__(self, config: Settings) -> None:
        self.config = config

    def lifecycle_run(self, product: str, key: str, *_: Any, **__: Any) -> TrackedRun:
        return _nowhere(product, key)

    def step_run(
        self,
        parent: TrackedRun,  # noqa: ARG002 - nowhere
        step: str,
        key: str,
        *_: Any,
        **__: Any,
    ) -> TrackedRun:
        return _nowhere(step, key)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Nothing."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def log_epochs(self, run_id: str, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None
    ) -> None:
        """Nothing."""

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """Nothing."""


class QuietWorkshop(Workshop):
    """The tools of a worker."""

    @cached_property
    def tracking(self) -> Tracking:
        return QuietTracking(self.config)


def open_quiet_workshop() -> QuietWorkshop:
    """The workshop of a worker process, on the settings of its environment."""
    config = environment.settings()
    environment.apply(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    return QuietWorkshop(config)


def _nowhere(step: str, key: str) -> TrackedRun:
    return TrackedRun(run_id="", step=step, key=key, experiment_id="", finished=True)
