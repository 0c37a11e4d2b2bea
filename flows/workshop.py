"""The tools of one process, opened once: settings, store, ledger, tracking, registry.

The composition root of every flow. Tracking and registry import MLflow, so they open only when they are touched.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from infra import settings as environment
from infra.keys import masking_key
from infra.ledger import Ledger
from infra.settings import Settings
from infra.storage import Store, open_store

if TYPE_CHECKING:
    from infra.registry import Registry
    from infra.tracking import Tracking


def now() -> datetime:
    """The clock of the flows: aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Workshop:
    """Everything that a step may touch."""

    config: Settings

    @property
    def home(self) -> Path:
        return self.config.folder

    @cached_property
    def store(self) -> Store:
        return open_store(self.config)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.home / "ledger" / "ledger.jsonl", clock=now)

    @cached_property
    def masking_key(self) -> bytes:
        return masking_key(self.config)

    @cached_property
    def tracking(self) -> "Tracking":
        from infra.tracking import Tracking

        return Tracking(self.config)

    @cached_property
    def registry(self) -> "Registry":
        from infra.registry import Registry

        return Registry(self.config, self.ledger)


def open_workshop() -> Workshop:
    """The workshop of this process; points every library at HOME and switches telemetry off first."""
    config = environment.settings()
    environment.apply(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    return Workshop(config)
