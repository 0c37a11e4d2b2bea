"""Alone moves aliases: projects the ledger onto MLflow, and sees when others moved them.

The tag `roadworthy.ledger_seq` on the registered model is written last, so an unfinished projection (finished quietly)
is told from an alias moved behind our back (undone and recorded).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import tracking_store
from infra.ledger import Entry
from infra.promotion import ALIAS_RESTORED, CHAMPION, Standing, standing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PRODUCT = "roadworthy.product"  # marks the registered models that are ours; others on the same server are left alone
PROJECTED = "roadworthy.ledger_seq"
STATUS = "roadworthy.status"


class RegistryError(Exception):
    """The registry and the ledger cannot be brought together; the message says what was expected and what was got."""


@dataclass(frozen=True)
class Shown:
    """What MLflow shows of one product: aliases, versions, and the last ledger entry projected onto it."""

    aliases: dict[str, int]
    versions: dict[int, ModelVersion]
    projected: int
    exists: bool = True


@dataclass(frozen=True)
class MovedAlias:
    """An alias that is not where the ledger puts it; None: absent."""

    alias: str
    expected: int | None
    found: int | None


def look(client: MlflowClient, product: str) -> Shown:
    """Read one product; one that MLflow does not have shows nothing."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(product)
    except MlflowException as error:
        if error.error_code != tracking_store.MISSING:
            raise
        return Shown({}, {}, 0, exists=False)
    found = tracking_store.every_page(client.search_model_versions, f"name = '{product}'")
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    return Shown(aliases, {int(version.version): version for version in found}, int(model.tags.get(PROJECTED, 0)))


def _targets(state: Standing, shown: Shown) -> dict[str, int | None]:
    return {alias: version if version in shown.versions else None for alias, version in state.aliases.items()}


def moved(entries: Sequence[Entry], shown: Shown) -> list[MovedAlias]:
    """Aliases that neither the finished nor an unfinished projection of `entries` explains.

    Raises RegistryError when the registry has seen later entries than these: the ledger was cut or replaced.
    """
    now = standing(entries)
    if shown.projected > now.last_seq:
        raise RegistryError(
            f"ledger: expected entry {shown.projected} that the registry has seen, last is {now.last_seq}"
        )
    wanted = _targets(now, shown)
    done = _targets(standing([entry for entry in entries if entry.seq <= shown.projected]), shown)
    restoring = [entry.details for entry in entries if entry.action == ALIAS_RESTORED and entry.seq > shown.projected]
    problems = []
    for alias, version in wanted.items():
        found = shown.aliases.get(alias)
        explained = [version, done[alias], *(d["found"] for d in restoring if d["alias"] == alias)]
        if found not in explained:
            problems.append(MovedAlias(alias, version, found))
    return problems


def project(client: MlflowClient, product: str, entries: Sequence[Entry]) -> Iterator[str]:
    """Make MLflow show what the ledger says; yields the name of each step done. Any prefix may be repeated."""
    shown, state = look(client, product), standing(entries)
    for alias, version in _targets(state, shown).items():
        if shown.aliases.get(alias) == version:
            continue
        if version is None:
            client.delete_registered_model_alias(product, alias)
        else:
            client.set_registered_model_alias(product, alias, str(version))
        yield alias
    yield from _mark(client, product, state, shown)
    for version in sorted(state.deleted & shown.versions.keys()):
        client.delete_model_version(product, str(version))
        yield "deleted"
    if shown.exists and shown.projected != state.last_seq:
        client.set_registered_model_tag(product, PROJECTED, str(state.last_seq))
        yield "projected"


def _mark(client: MlflowClient, product: str, state: Standing, shown: Shown) -> Iterator[str]:
    """Tags of every version that was ever live: live, previous or retired; and its parcel, should anyone change it."""
    names = {ref.version: "retired" for ref in state.were_live}
    names |= {version: name for name, version in _names(state).items() if version is not None}
    digests = {ref.version: ref.digest for ref in state.were_live}
    for version in sorted(digests.keys() & shown.versions.keys()):
        for tag, value in ((STATUS, names[version]), (tracking_store.PARCEL, digests[version])):
            if shown.versions[version].tags.get(tag) != value:
                client.set_model_version_tag(product, str(version), tag, value)
                yield tag


def _names(state: Standing) -> dict[str, int | None]:
    return {"live" if alias == CHAMPION else "previous": version for alias, version in state.aliases.items()}
