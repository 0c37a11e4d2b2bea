"""What a version's page in MLflow says: why it was not promoted, and who approved it.

People look at the page, programs at the tag; both are copies of what the ledger says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.promotion import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from infra.aliases import MovedAlias
    from infra.refs import ModelRef

REFUSED, RESTORED = "roadworthy.refused", "roadworthy.alias_restored"
APPROVALS = "roadworthy.approvals"
MAX_CHARACTERS = 5000  # of a tag and of a description, where MLflow's database is not SQLite
CUT = "\n\n… cut here; the whole of it is in the run."
TITLES = {REFUSED: "Not promoted", RESTORED: "Alias put back"}
NOTE = re.compile(rf"\A> \*\*({'|'.join(TITLES.values())})\*\* [^\n]*\n\n")


def cut(text: str) -> str:
    """At most so much as a description may hold."""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - len(CUT)] + CUT


def put_back(client: MlflowClient, product: str, one: MovedAlias, reason: str = "") -> None:
    """Say on the page of the version that the alias was moved to, or taken from, why it is back; no reason, no word."""
    version = one.expected if one.found is None else one.found
    if not reason or version is None:
        return
    if one.alias == CHAMPION and one.found is not None:
        refused(client, product, version, reason)
    else:
        _note(client, product, version, RESTORED, f"alias `{one.alias}`: {reason}")


def refused(client: MlflowClient, product: str, version: int, reason: str) -> None:
    """Say why it was not promoted."""
    _note(client, product, version, REFUSED, reason)


def approved(client: MlflowClient, ref: ModelRef, names: Sequence[str], needed: int) -> None:
    """Say who approved it; the ledger is what counts."""
    value = f"{len(names)} of {needed}: {', '.join(names)}"
    client.set_model_version_tag(ref.product, str(ref.version), APPROVALS, value[:MAX_CHARACTERS])


def clear(client: MlflowClient, product: str, version: int) -> None:
    """Take the note away: what it says is over."""
    tags = client.get_model_version(product, str(version)).tags
    if not {REFUSED, RESTORED} & tags.keys():
        return
    _describe(client, product, version, "")
    for tag in {REFUSED, RESTORED} & tags.keys():
        client.delete_model_version_tag(product, str(version), tag)


def _note(client: MlflowClient, product: str, version: int, tag: str, reason: str) -> None:
    """The tag, and the first line of the page in the place of an earlier note."""
    flat, when = " ".join(reason.split()), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    client.set_model_version_tag(product, str(version), tag, flat[:MAX_CHARACTERS])
    _describe(client, product, version, f"> **{TITLES[tag]}** ({when}) {flat}\n\n")


def _describe(client: MlflowClient, product: str, version: int, note: str) -> None:
    known = client.get_model_version(product, str(version)).description or ""
    client.update_model_version(product, str(version), description=cut(note[:MAX_CHARACTERS] + NOTE.sub("", known)))
