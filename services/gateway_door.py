"""Who comes in at the gateway, by which line of the matrix, and what the trail keeps of it.

A refused call and a call that changes something are in the trail, with who, what and the status; one that only a
promoter or an operator may make is there before it is let through. Reading is not.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from infra.api_keys import Grant
from infra.roles import includes
from services.admission import Guard, Header
from services.answers import ANYBODY, Caller, Refusal, Scope, header, sortable_id
from services.audit import Audit
from services.gateway_matrix import SERVING, Rule, is_plain
from services.quotas import Proxies

REQUEST_ID = b"x-request-id"
MAX_SHOWN_BODY = 65_536  # bytes of a privileged call in which the trail looks for what it is about
SHOWN = ("name", "version", "alias", "stage", "new_name", "key", "run_id", "experiment_id", "model_id", "path")
SAFE = frozenset({"GET", "HEAD"})
_ID = re.compile(r"[\w.:-]{1,64}")


@dataclass
class Visit:
    """One call: what it wants, and of whom; `status` is that of the answer, 0 before it."""

    service: str
    method: str
    path: str
    address: str
    request_id: str
    rule: Rule | None = None
    grant: Grant | None = None
    status: int = 0
    about: str = field(default="")

    @property
    def caller(self) -> Caller:
        return Caller(self.grant.name, self.grant.tenant, self.grant.id) if self.grant else ANYBODY

    @property
    def where(self) -> str:
        """For the trail: a stranger's own words are not in it."""
        label = self.rule.label(self.path) if self.rule else "path"
        return f"{self.service} {self.method} {self.path if self.grant and self.is_privileged else label}"

    @property
    def is_privileged(self) -> bool:
        return bool(self.rule and self.rule.is_change and includes(self.rule.role, "promoter"))


class Door:
    """Lets in by the matrix."""

    def __init__(self, guard: Guard, proxies: Proxies, audit: Audit | None = None) -> None:
        self._guard, self._proxies, self._audit = guard, proxies, audit

    def visit(self, scope: Scope, service: str, method: str) -> Visit:
        """The call as it stands at the door."""
        peer = str(scope["client"][0]) if scope.get("client") else "local"
        address = self._proxies.client(peer, header(scope, b"x-forwarded-for").decode("latin-1"))
        given = header(scope, REQUEST_ID).decode("latin-1")
        request_id = given if _ID.fullmatch(given) else sortable_id()
        return Visit(service, method, scope["path"], address, request_id)

    async def admit(self, visit: Visit, scope: Scope, rule: Rule, wanted: Header | None = None) -> Grant:
        """Whose call this is, if his role may. `wanted`: where the credential is, if not in the head.

        Raises Refusal 400, 401, 403, 429 or 503, after noting it.
        """
        visit.rule = rule
        try:
            self._check_head(scope, visit)
        except Refusal as refusal:
            self.refused(visit, refusal)
            raise
        try:
            visit.grant = await self._guard.identify(wanted or lookup(scope), visit.address, visit.where)
        except Refusal as refusal:  # the guard has noted it
            visit.status = refusal.status
            raise
        if visit.service != SERVING and not includes(visit.grant.role, rule.role):
            got = f"{visit.grant.role or 'no role'}: {visit.method} {visit.path}"[:200]
            self.refuse(visit, Refusal(403, "the role does not allow this", "role", f"{rule.role} or above", got))
        return visit.grant

    def refuse(self, visit: Visit, refusal: Refusal) -> None:
        """Note it and raise it."""
        self.refused(visit, refusal)
        raise refusal

    async def still_valid(self, visit: Visit, wanted: Header) -> bool:
        """Whether the credential of a long call still opens; a revoked key ends it."""
        try:
            await self._guard.identify(wanted, visit.address, visit.where)
        except Refusal:
            return False
        return True

    async def announce(self, visit: Visit) -> None:
        """Write a privileged call into the trail before it is let through. Raises Refusal 503 when that fails."""
        if self._audit is None:
            return
        record, why = self._audit.record, self._why(visit, "admitted")
        written = await asyncio.to_thread(
            record, "call.privileged", visit.caller, visit.where, why, verb=visit.method, model="",
            address=visit.address,
        )  # fmt: skip
        if not written:
            expected = "an entry of this call"
            self.refuse(visit, Refusal(503, "the audit trail cannot be written", "audit", expected, "see the log"))

    def answered(self, visit: Visit) -> None:
        """Note how a call that changes something ended."""
        if self._audit and visit.rule and visit.rule.is_change and visit.grant:
            self._note("call.changed", visit, visit.about, visit.status)

    def refused(self, visit: Visit, refusal: Refusal) -> None:
        visit.status = refusal.status
        self._note("call.refused", visit, refusal.what, refusal.status)

    def _note(self, event: str, visit: Visit, why: str, status: int) -> None:
        if self._audit:
            self._audit.note(
                event, visit.caller, visit.where, self._why(visit, why), verb=visit.method, status=status,
                address=visit.address,
            )  # fmt: skip

    def _why(self, visit: Visit, why: str) -> str:
        role = visit.grant.role if visit.grant else ""
        told = [part for part in (role, why, visit.about if visit.about != why else "") if part]
        return "; ".join([*told, visit.request_id] if visit.is_privileged and visit.grant else told)

    def _check_head(self, scope: Scope, visit: Visit) -> None:
        """Refuse a path that servers may read in several ways, and what another site's page makes a browser send."""
        if not is_plain(visit.path):
            expected = "no doubled slash, no dots, nothing unprintable"
            raise Refusal(400, "not a plain path", "path", expected, ascii(visit.path)[:200])
        if (visit.method not in SAFE or scope["type"] == "websocket") and is_foreign(scope):
            raise Refusal(403, "a page of another site may not do this", "origin", "this site", "another")


def is_foreign(scope: Scope) -> bool:
    """Whether a browser says that another site's page sends this; programs say nothing."""
    if header(scope, b"sec-fetch-site") in (b"cross-site", b"same-site"):
        return True
    origin = header(scope, b"origin").decode("latin-1")
    if not origin:
        return False
    try:  # the library says by raising that it is none
        place = urlsplit(origin).netloc
    except ValueError:
        return True
    return place.lower() != header(scope, b"host").decode("latin-1").lower()


def about(body: bytes, query: bytes) -> str:
    """Which thing a call is about, by the names that servers give such: `name=ring alias=champion version=3`."""
    try:
        found: Any = json.loads(body) if body else {}
    except ValueError:
        found = {}
    fields = dict(found) if isinstance(found, dict) else {}
    pairs = [pair.partition("=") for pair in query.decode("latin-1").split("&")]
    fields |= {name: value for name, _, value in pairs if name in SHOWN}
    shown = {name: str(fields[name])[:48] for name in SHOWN if isinstance(fields.get(name), str | int)}
    return " ".join(f"{name}={value}" for name, value in shown.items())


def bearer(credential: str) -> Header:
    """A credential that came otherwise than in the head, as if it had."""
    return lambda name: f"Bearer {credential}" if name == "authorization" else ""


def lookup(scope: Scope) -> Header:
    """The head of a call, by lower-case names."""
    headers = dict(reversed(scope["headers"]))  # of two the first counts
    return lambda name: str(headers.get(name.encode(), b""), "latin-1")
