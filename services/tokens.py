"""Checks OIDC tokens.

A JWT of one issuer for one audience, signed by a key of the issuer's published set.

Only asymmetric algorithms, and for each key only its own: a token cannot choose how it is checked, so neither "none"
nor a public key used as an HMAC secret opens anything (RFC 8725). Scopes say what is allowed: `roadworthy:predict` on
every model, `predict:freeway` on one. The claim `roles` gives a role on the whole platform, `roadworthy:promoter`.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b, sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from infra import roles
from infra.api_keys import ANY, VERBS, Grant, IssuerError, TokenError
from services.quotas import is_loopback

ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}  # by type and curve
REQUIRED = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 30
MIN_REFRESH_S, FRESH_S, USABLE_S = 60.0, 600.0, 86_400.0  # asked at most so often, gladly so often, good for so long
TIMEOUT_S = 5.0
MAX_SET_BYTES, MAX_TOKEN_CHARS, MAX_VERIFIED = 1_000_000, 8_000, 10_000


class KeySet:
    """The public keys of the issuer by their ids, from a file or an https address."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises TokenError for an address that is neither https nor on this machine."""
        parts = urlsplit(source)
        is_web = parts.scheme in ("http", "https")
        if is_web and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise TokenError(f"jwt_jwks: expected a file or an https address, got {parts.scheme}://{parts.hostname}")
        self._fetch = (lambda: _download(source)) if is_web else (lambda: Path(source).read_bytes())
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at, self._asked_at = float("-inf"), float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key with this id; a token without an id gets the only one. Raises TokenError, or IssuerError."""
        found = self._find(key_id)
        if found is None or self._age_s() > FRESH_S:
            await self._refresh()
            found = self._find(key_id)
        if self._age_s() > USABLE_S:
            raise IssuerError("the issuer's keys could not be read")
        if found is None:
            raise TokenError("signed by a key that the issuer does not publish")
        return found

    def _find(self, key_id: str) -> jwt.PyJWK | None:
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _age_s(self) -> float:
        return self._clock() - self._read_at

    async def _refresh(self) -> None:
        """Read the set again, unless it was tried within the last minute; a failure keeps what there was."""
        async with self._lock:
            if self._clock() - self._asked_at < MIN_REFRESH_S:
                return
            self._asked_at = self._clock()
            try:  # the outside world: its failure is said by `key`, to whoever needs a key
                self._keys = parse_keys(await asyncio.to_thread(self._fetch))
                self._read_at = self._clock()
            except (OSError, HTTPException, ValueError):
                return


class Tokens:
    """What each token allows; one that was verified before costs microseconds."""

    def __init__(
        self, issuer: str, audience: str, source: str, clock: Callable[[], float] = time.time,
        key_set: KeySet | None = None,
    ) -> None:  # fmt: skip
        """`source`: the issuer's key set, a file or an https address. Raises TokenError when one of them is empty."""
        if not (issuer and audience and source):
            raise TokenError(
                "auth=jwt: expected jwt_issuer, jwt_audience and jwt_jwks, got an empty one; set all three"
            )
        self._issuer, self._audience, self._clock = issuer, audience, clock
        self._key_set = key_set or KeySet(source)
        self._verified: dict[bytes, tuple[Grant, float]] = {}
        self._digest_key = secrets.token_bytes(32)

    def known(self, token: str) -> Grant | None:
        """The grant of a token that was verified within the last ten minutes; it may have ended."""
        grant, until = self._verified.get(self._digest(token), (None, 0.0))
        return grant if until > self._clock() else None

    async def find(self, token: str) -> Grant:
        """The grant of a token. Raises TokenError for one that is not accepted, IssuerError when none can be."""
        found = self.known(token)
        if found is not None:
            return found
        key = await self._key_set.key(_key_id(token))
        grant = grant_of(self._claims(token, key))
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[self._digest(token)] = (grant, self._clock() + FRESH_S)  # then its key must still be published
        return grant

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        algorithm = key.algorithm_name
        try:  # PyJWT says no by raising; its messages name claims, not their values
            return jwt.decode(
                token, key, algorithms=[algorithm], audience=self._audience, issuer=self._issuer, leeway=LEEWAY_S,
                options={"require": REQUIRED, "enforce_minimum_key_length": True},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            reason = next((text for kind, text in REASONS.items() if isinstance(error, kind)), "not a valid token")
            raise TokenError(reason, is_guess=not isinstance(error, CLAIM_ERRORS)) from None

    def _digest(self, token: str) -> bytes:
        return blake2b(token.encode("utf-8", "surrogatepass"), key=self._digest_key, digest_size=16).digest()


def parse_keys(raw_set: bytes) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JSON Web Key Set by id: asymmetric, for signatures, of the one algorithm of their type.

    Raises ValueError for what is no key set. Others' keys in it are passed over, as RFC 7517 asks.
    """
    content = json.loads(raw_set[:MAX_SET_BYTES])
    if not isinstance(content, dict) or not isinstance(content.get("keys"), list):
        raise ValueError("expected a JSON Web Key Set")
    found = {}
    for item in content["keys"]:
        algorithm = _algorithm(item)
        if algorithm is None:
            continue
        try:  # one key that nobody can read must not shut out those who use the others
            found[str(item.get("kid", ""))] = jwt.PyJWK(item, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    return found


def _algorithm(item: Any) -> str | None:
    """The algorithm that a key of a set is for, None for one that is not ours to use."""
    if not isinstance(item, dict) or item.get("use", "sig") != "sig":
        return None
    algorithm = ALGORITHMS.get((str(item.get("kty")), str(item.get("crv", ""))))
    return algorithm if item.get("alg", algorithm) == algorithm else None


def grant_of(claims: dict[str, Any]) -> Grant:
    """What checked claims allow: `scope` or `scp`, `roles`, the `tenant`, the subject's name, until `exp`."""
    scopes = claims.get("scope") or claims.get("scp") or ""
    words = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
    allowed = {pair for word in words if isinstance(word, str) and (pair := _permission(word))}
    role = roles.of_claim(claims.get("roles"))
    allowed |= {(verb, ANY) for verb in roles.VERBS_OF.get(role, ())}
    subject = str(claims["sub"])
    key_id = "jwt:" + sha256(f"{claims['iss']}|{subject}".encode()).hexdigest()[:12]
    tenant = claims.get("tenant", "")
    return Grant(
        key_id, subject[:128], tenant[:64] if isinstance(tenant, str) else "", frozenset(allowed),
        float(claims["exp"]) + LEEWAY_S, role=role,
    )  # fmt: skip


def _permission(scope: str) -> tuple[str, str] | None:
    """`roadworthy:VERB` is the verb on every model, `VERB:MODEL` on one; other programs' scopes are none of ours."""
    left, _, right = scope.partition(":")
    if left == "roadworthy" and right in VERBS:
        return right, ANY
    return (left, right) if left in VERBS and right else None


def _key_id(token: str) -> str:
    """The id of the key in the head of a token that nobody has checked yet."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenError(f"longer than {MAX_TOKEN_CHARS} characters")
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError("not a JSON Web Token") from None


REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not valid yet",
    jwt.InvalidAudienceError: "for another audience",
    jwt.InvalidIssuerError: "of another issuer",
    jwt.InvalidAlgorithmError: "of an algorithm that its key is not for",
    jwt.InvalidSignatureError: "not signed by its key",
    jwt.MissingRequiredClaimError: f"without one of {', '.join(REQUIRED)}",
    jwt.InvalidKeyError: "signed by a key that is too short",
}

# Raised only after the signature was found right: whoever brings these is late or at the wrong door.
CLAIM_ERRORS = (
    jwt.ExpiredSignatureError, jwt.ImmatureSignatureError, jwt.InvalidAudienceError, jwt.InvalidIssuerError,
    jwt.MissingRequiredClaimError,
)  # fmt: skip


def _download(source: str) -> bytes:
    """The body at an address, whole; no redirect is followed, since it could lead off https."""
    parts = urlsplit(source)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"expected 200, got {response.status}")
        return response.read(MAX_SET_BYTES)
    finally:
        connection.close()
