"""Puts progress and results where people look.

That is the terminal, and Prefect's artifacts of the flow run.
"""

import errno
import time
from types import TracebackType
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger
from rich.progress import TaskID

from flows import console
from flows.evaluate import Evaluation
from flows.outcome import Outcome
from flows.session import Session
from infra.objects import IntegrityError, StorageError
from infra.tracking_store import is_unreachable

SECONDS_BETWEEN = 2.0  # updates of the progress artifact


class Publisher:
    """Watches a session: a bar on the terminal, a progress artifact in Prefect."""

    def __init__(self, session: Session, num_candidates: int) -> None:
        self._session = session
        self._key = session.recipe.product.replace("_", "-")
        self._num_parts = num_candidates + 2  # the fits, export, evaluation
        self._parts: dict[str, float] = {}
        self._bar = console.progress()
        self._tasks: dict[str, TaskID] = {}
        self._artifact: UUID | None = None
        self._updated = 0.0

    def __enter__(self) -> "Publisher":
        self._progress = self._bar.__enter__()
        made = create_progress_artifact(0.0, key=f"progress-{self._key}", description="Share of the lifecycle done")
        self._artifact = cast(UUID, made)  # a coroutine only inside an event loop, and the flow has none
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def __call__(self, step: str, fraction: float, note: str) -> None:
        """One step's share done, with a word about it."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=1.0, note="")
        self._progress.update(self._tasks[step], completed=fraction, note=note)
        part = "export" if step.startswith(("export", "quantise")) else step
        self._parts[part] = fraction
        if fraction >= 1.0:
            get_run_logger().info("%s: %s", step, note or "done")
            if not console.err.is_terminal:
                console.say(f"  {step}: {note or 'done'}")
        if time.monotonic() - self._updated > SECONDS_BETWEEN and self._artifact:
            share = min(sum(self._parts.values()) / self._num_parts, 1.0)
            update_progress_artifact(self._artifact, progress=round(100 * share, 1))
            self._updated = time.monotonic()

    def steps_done(self) -> dict[str, Any]:
        """Every step so far, as JSON; the lifecycle's run ends here."""
        self._session.finish()
        return {
            name: {
                "key": done.key, "folder": str(done.folder), "seconds": done.seconds,
                "was_cached": done.was_cached, "notes": done.notes,
            }
            for name, done in self._session.steps.items()
        }  # fmt: skip

    def publish(self, outcome: Outcome, evaluation: Evaluation) -> None:
        """The verdict as markdown and the candidates as a table."""
        if self._artifact:
            update_progress_artifact(self._artifact, progress=100.0)
        rows = [
            {"candidate": name, **metrics, "bytes": outcome.bytes[name], **outcome.latency_ms[name]}
            for name, metrics in outcome.metrics.items()
        ]
        create_table_artifact(rows, key=f"candidates-{self._key}", description=outcome.sentence)
        card = (evaluation.done.folder / "card.md").read_text()
        create_markdown_artifact(card, key=f"verdict-{self._key}", description=outcome.verdict)


def is_transient(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001 - Prefect's signature
    """Whether a failed step is worth another try: a server could not be reached, or a disk was full for a while.

    Where something was found damaged it is not.
    """
    error = state.result(raise_on_failure=False)
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (
        is_full or is_unreachable(error) or (isinstance(error, StorageError) and not isinstance(error, IntegrityError))
    )
