"""One lifecycle in progress: its recipe, its data, its tracked run, and who watches."""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.prepare import Prepared
from flows.steps import Done, key_of
from flows.workshop import Workshop
from infra.commit import code_commit
from models import catalog
from models.data.snapshot import Snapshot
from models.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.tracking import TrackedRun

CHECKOUT = Path(__file__).parents[1]


class Watch(Protocol):
    """Whoever wants to know how far it is: a progress bar, a Prefect artifact."""

    def __call__(self, step: str, fraction: float, note: str) -> None: ...


def nobody(step: str, fraction: float, note: str) -> None:
    """Watches nothing."""


def lifecycle_key(recipe: Recipe, prepared: str, owner: str = "") -> str:
    """A lifecycle's key: recipe, key of its snapshot, all code that computes, and whose mark its graphs bear."""
    return key_of(recipe.model_dump(mode="json"), prepared, catalog.code_digest(), *([owner] if owner else []))


@dataclass
class Session:
    """What every step of one lifecycle shares. `steps` collects what was done.

    parcels: digests by candidate, where it was judged before and is only judged again
    """

    shop: Workshop
    recipe: Recipe
    prepared: Prepared
    key: str
    watch: Watch = nobody
    steps: dict[str, Done] = field(default_factory=dict)
    parcels: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def snapshot(self) -> Snapshot:
        return self.prepared.snapshot()

    @cached_property
    def parent(self) -> "TrackedRun":
        """The lifecycle's run in MLflow, found again by its key after a kill."""
        tracking = self.shop.tracking
        run = tracking.lifecycle_run(
            self.recipe.product,
            self.key,
            self.recipe.model_dump(mode="json"),
            {"roadworthy.data": self.prepared.ref.digest, "roadworthy.commit": self.commit},
            name=f"{self.recipe.name} on {self.recipe.data.name} {self.key[:6]}",
        )
        if not run.finished:
            data = self.snapshot.manifest
            columns = dict.fromkeys(data.channels, "double") or {"pixels": "binary", "label": "long"}
            profile = {"rows": data.num_rows, "missing_share": data.missing_share, "splits": data.splits}
            source = f"{self.shop.config.store_uri}/{self.prepared.ref.key}"
            tracking.log_dataset(run.run_id, data.name, data.digest, source, columns, profile)
        return run

    @property
    def commit(self) -> str:
        return code_commit(CHECKOUT)

    def note(self, name: str, done: Done) -> Done:
        """Remember a step under `name`."""
        self.steps[name] = done
        return done

    @contextmanager
    def tracked(self, step: str, key: str, params: dict[str, Any]) -> "Iterator[TrackedRun]":
        """The child run of a step: FINISHED or FAILED with the block, left RUNNING for its heir by a kill."""
        run = self.shop.tracking.step_run(self.parent, step, key, params)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        finally:
            self.shop.tracking.finish(run.run_id, status)

    def finish(self) -> None:
        """The lifecycle's run is over."""
        self.shop.tracking.finish(self.parent.run_id)

    def seconds(self) -> dict[str, float]:
        """Seconds by step, as measured when each was computed; 0 for those found."""
        return {name: 0.0 if done.was_cached else done.seconds for name, done in self.steps.items()}
