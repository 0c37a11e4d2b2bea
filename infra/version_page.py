"""What a version's page in MLflow says to whoever moved an alias by hand: why it was put back.

People look at the page, programs at the tag; both are copies of what the ledger says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.promotion import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from infra.aliases import MovedAlias

REFUSED, RESTORED = "roadworthy.refused", "roadworthy.alias_restored"
MAX_CHARACTERS = 5000  # of a tag and of a description, where MLflow's database is not SQLite
CUT = "\n\n… cut here; the whole of it is in the run."
NOTE = re.compile(r"\A> \*\*(Not promoted|Alias put back)\*\* [^\n]*\n\n")


def cut(text: str) -> str:
    """At most so much as a description may hold."""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - len(CUT)] + CUT


def say(client: MlflowClient, product: str, one: MovedAlias, reason: str) -> None:
    """Write on the page of the version that the alias was moved to, or taken from, why it is put back.

    The note is the first line of the page and replaces an earlier one.
    """
    version = one.expected if one.found is None else one.found
    if version is None:
        return
    is_refusal = one.alias == CHAMPION and one.found is not None
    title = "Not promoted" if is_refusal else "Alias put back"
    flat = " ".join(reason.split())
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    tag = REFUSED if is_refusal else RESTORED
    client.set_model_version_tag(product, str(version), tag, flat[:MAX_CHARACTERS])
    _describe(client, product, version, f"> **{title}** ({when}, alias `{one.alias}` moved by hand): {flat}\n\n")


def clear(client: MlflowClient, product: str, version: int) -> None:
    """Take the note away: what it says is over."""
    tags = client.get_model_version(product, str(version)).tags
    if not {REFUSED, RESTORED} & tags.keys():
        return
    _describe(client, product, version, "")
    for tag in {REFUSED, RESTORED} & tags.keys():
        client.delete_model_version_tag(product, str(version), tag)


def _describe(client: MlflowClient, product: str, version: int, note: str) -> None:
    known = client.get_model_version(product, str(version)).description or ""
    client.update_model_version(product, str(version), description=cut(note[:MAX_CHARACTERS] + NOTE.sub("", known)))
