"""Decides who may call, by the same rules for every protocol.

A key that was seen before is judged without waiting; one that is new waits for argon2 in a thread, one at a time, and
an address that brings wrong keys is shut out for a while, so guessing neither starves serving nor gets anywhere.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from infra.api_keys import Grant, IssuerError, TokenError, Verb
from infra.key_ring import BusyError, KeyRing
from infra.settings import ServiceSettings
from services.answers import ANYBODY, Caller, Refusal
from services.audit import Audit
from services.quotas import Proxies, Quotas, Strikes, is_loopback

if TYPE_CHECKING:
    from services.tokens import Tokens

Header = Callable[[str], str]  # a header's or a metadata entry's value by its lower-case name, "" without one
KEY_PREFIX = "rw_"
CHALLENGE = (b"www-authenticate", b'Bearer realm="roadworthy"')
WRONG = (b"www-authenticate", b'Bearer realm="roadworthy", error="invalid_token"')
HOW = "Authorization: Bearer KEY, or X-API-Key: KEY"


class GuardError(ValueError):
    """The settings would leave the service open to others; it must not start."""


@dataclass(frozen=True)
class Guest(Caller):
    """A caller whom the guard let in; `max_body_bytes` is 0 where only the service's own limit holds."""

    max_body_bytes: int = 0


class Guard:
    """Who may use which verb on which model."""

    def __init__(
        self,
        ring: KeyRing | None = None,
        tokens: "Tokens | None" = None,
        *,
        is_open: bool = False,
        audit: Audit | None = None,
        default_model: Callable[[str], str] = lambda _tenant: "",
        requests_per_minute: int = 0,
        strikes: Strikes | None = None,
        clock: Callable[[], float] = time.time,
        proxies: Proxies | None = None,
    ) -> None:
        """`default_model` names the model that a tenant means who names none; `is_open` lets everybody in.

        proxies: who is believed when he says for whom he asks; default: this machine
        """
        self._proxies = proxies or Proxies()
        self._ring, self._tokens, self._is_open, self._audit = ring, tokens, is_open, audit
        self._default_model, self._per_minute, self._clock = default_model, requests_per_minute, clock
        self._strikes, self._quotas = strikes or Strikes(), Quotas()

    async def admit(
        self, header: Header, verb: Verb, model: str, address: str, num_bytes: int, route: str = ""
    ) -> Guest:
        """Who calls, where they may. `num_bytes`: of the body as declared, 0 where that is not known yet.

        Raises Refusal 401, 403, 413, 429 or 503, after noting it in the audit trail.
        """
        grant, address = None, self._proxies.client(address, header("x-forwarded-for"))
        try:
            if self._is_open:
                return _anybody(header, verb)
            if verb == "operate" and header("origin"):
                raise _no_browsers()
            grant = await self._found(header, address)
            if not model and verb != "read":
                # Who operates the service does so for all; everybody else means what his tenant gets.
                model = self._default_model("" if verb == "operate" else grant.tenant)
            self._judge(grant, verb, model, num_bytes)
            if verb == "operate":
                await self._announce(grant, model, address, route)
        except Refusal as refusal:
            self._note(refusal, grant, verb, model, address, route)
            raise
        return _guest(grant)

    async def knock(self, header: Header, address: str, route: str) -> None:
        """Refuse who has no valid key, before what he sends is waited for. Raises Refusal 401, 429 or 503."""
        if not self._is_open:
            await self.identify(header, self._proxies.client(address, header("x-forwarded-for")), route)

    async def identify(self, header: Header, address: str, route: str) -> Grant:
        """Whose valid key this is, whatever it allows; `address` is whoever asks, not a proxy. Raises Refusal."""
        grant = None
        try:
            grant = await self._found(header, address)
            self._check_valid(grant)
        except Refusal as refusal:
            self._note(refusal, grant, "", "", address, route)
            raise
        return grant

    async def _found(self, header: Header, address: str) -> Grant:
        credential = _credential(header)
        return self._known(credential) or await self._find(credential, address)

    def _known(self, credential: str) -> Grant | None:
        if self._ring and credential.startswith(KEY_PREFIX):
            return self._ring.known(credential)
        return self._tokens.known(credential) if self._tokens else None

    async def _find(self, credential: str, address: str) -> Grant:
        """The grant of a credential that nobody has brought before. Raises Refusal."""
        if wait_s := self._strikes.wait_s(address):
            raise _later("too many wrong keys came from this address", "none for a while", "another", wait_s)
        why, is_guess = "unknown", True
        try:  # each source says no in its own way
            if self._ring and credential.startswith(KEY_PREFIX):
                if grant := await self._ring.find(credential):
                    return grant
            elif self._tokens:
                return await self._tokens.find(credential)
        except BusyError:
            raise _later("too many new keys are being checked", "a key that was used before", "a new one", 1) from None
        except IssuerError as error:
            raise Refusal(503, str(error), "issuer", "its key set", "none", (b"retry-after", b"60")) from None
        except TokenError as error:
            why, is_guess = str(error), error.is_guess
        if is_guess:
            self._strikes.failed(address)
        raise Refusal(401, "the key is not accepted", "authorization", "a valid key or token", why, WRONG)

    def _judge(self, grant: Grant, verb: Verb, model: str, num_bytes: int) -> None:
        """Refuse what this caller may not do, or not now."""
        self._check_valid(grant)
        if not grant.allows(verb, model):
            may = ", ".join(sorted(f"{verb} {model}" for verb, model in grant.allowed)) or "nothing"
            raise Refusal(403, "the key does not allow this", "authorization", may, f"{verb} {model or '*'}"[:200])
        if 0 < grant.max_body_bytes < num_bytes:
            raise too_large(grant.max_body_bytes, f"{num_bytes} bytes declared")
        per_minute = grant.requests_per_minute or self._per_minute
        if per_minute and (wait_s := self._quotas.wait_s(grant.id, per_minute)):
            raise _later("the key's quota is used up", f"{per_minute} requests a minute", "one more", wait_s)

    def _check_valid(self, grant: Grant) -> None:
        if grant.revoked or grant.ends <= self._clock():
            got = "revoked" if grant.revoked else "expired"
            raise Refusal(401, "the key is not accepted", "authorization", "a valid key or token", got, WRONG)

    async def _announce(self, grant: Grant, model: str, address: str, route: str) -> None:
        """A privileged call is in the ledger before it is let through, or is not let through."""
        if self._audit is None:
            return
        record, caller = self._audit.record, _caller(grant)
        written = await asyncio.to_thread(
            record, "call.privileged", caller, route, "admitted", verb="operate", model=model, address=address
        )
        if not written:
            raise Refusal(503, "the audit trail cannot be written", "audit", "an entry of this call", "see the log")

    def _note(self, refusal: Refusal, grant: Grant | None, verb: str, model: str, address: str, route: str) -> None:
        if self._audit:
            caller = _caller(grant) if grant else ANYBODY
            why = refusal.what if refusal.status != 401 else f"{refusal.what}: {refusal.got}"
            self._audit.note(
                "call.refused", caller, route, why, verb=verb, model=model if grant else "",
                status=refusal.status, address=address,
            )  # fmt: skip


def open_guard(
    settings: ServiceSettings,
    host: str,
    audit: Audit | None = None,
    default_model: Callable[[str], str] = lambda _tenant: "",
) -> Guard:
    """The guard that the settings ask for, for a service bound to `host`. Raises GuardError, or TokenError."""
    if settings.auth == "off":
        bound = settings.published_on or host
        if not is_loopback(bound):
            raise GuardError(f"auth=off: expected to be bound to loopback, got {bound}; bind 127.0.0.1, or use keys")
        return Guard(is_open=True, audit=audit)
    tokens = None
    if settings.auth == "jwt":
        from services.tokens import Tokens  # PyJWT and what it loads take 0.1 s, which keys do without

        tokens = Tokens(settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks)
    elif settings.keys_file is None:
        raise GuardError("auth=keys: expected keys_file, got none; set ROADWORTHY_SERVE_KEYS_FILE")
    ring = KeyRing(settings.keys_file) if settings.keys_file else None
    try:
        proxies = Proxies(settings.proxies)
    except ValueError as error:
        raise GuardError(f"proxies: expected addresses or networks, got {settings.proxies}: {error}") from error
    return Guard(
        ring, tokens, audit=audit, default_model=default_model, requests_per_minute=settings.requests_per_minute,
        proxies=proxies,
    )  # fmt: skip


def _credential(header: Header) -> str:
    """The key or token that came, not yet checked. Raises Refusal 401 where none did."""
    scheme, _, credential = header("authorization").partition(" ")
    if not scheme:
        credential = header("x-api-key")
    elif scheme.lower() == "basic":
        credential = _password(credential)
    elif scheme.lower() != "bearer":
        raise Refusal(401, "a key is needed", "authorization", HOW, "another scheme", CHALLENGE)
    if not (credential := credential.strip()):
        raise Refusal(401, "a key is needed", "authorization", HOW, "none", CHALLENGE)
    return credential


def _password(encoded: str) -> str:
    """The key that a browser sends as a password, whatever the user's name; empty for what is none."""
    try:
        pair = base64.b64decode(encoded, validate=True).decode("ascii")
    except ValueError:  # binascii.Error and UnicodeDecodeError are among them
        return ""
    return pair.partition(":")[2]


def _anybody(header: Header, verb: Verb) -> Guest:
    """Everybody, where the service is open; no page of another site may operate it through its visitor's browser."""
    if verb == "operate" and header("origin"):
        raise _no_browsers()
    return Guest("open", header("x-tenant")[:64])


def _caller(grant: Grant) -> Caller:
    return Caller(grant.name, grant.tenant, grant.id)


def _guest(grant: Grant) -> Guest:
    return Guest(grant.name, grant.tenant, grant.id, grant.max_body_bytes)


def _later(what: str, expected: str, got: str, wait_s: float) -> Refusal:
    return Refusal(429, what, "authorization", expected, got, (b"retry-after", b"%d" % max(1, ceil(wait_s))))


def too_large(max_bytes: int, got: str) -> Refusal:
    """413 for a body over a key's own limit."""
    close = (b"connection", b"close")
    return Refusal(413, "the body is larger than the key allows", "body", f"at most {max_bytes} bytes", got, close)


def _no_browsers() -> Refusal:
    return Refusal(403, "browsers may not operate a service", "origin", "no such header", "one")
