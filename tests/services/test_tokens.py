"""Tokens by real keys, from a file and from a real server: what was not signed for us opens nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from infra.api_keys import Grant, IssuerError, TokenError
from services.tokens import KeySet, Tokens, parse_keys

pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # weak ones are the point

ISSUER, AUDIENCE = "https://issuer.example", "roadworthy"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY, ED_KEY = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"rsa": (RSA_KEY, "RS256"), "ec": (EC_KEY, "ES256"), "ed": (ED_KEY, "EdDSA")}
PUBLIC = [
    {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa", "use": "sig"},
    {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "ec"},
    {**OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "kid": "ed", "alg": "EdDSA"},
    {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
    {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "!", "y": "!"},
    "no key",
]
KEY_SET = json.dumps({"keys": PUBLIC}).encode()
RSA_PEM = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 300, "scope": "roadworthy:predict read:freeway"}
    return {name: value for name, value in {**given, **changed}.items() if value is not None}


def token(key_id: str = "ec", **changed: Any) -> str:
    key, algorithm = PRIVATE[key_id]
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": key_id})


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    path = tmp_path / "jwks.json"
    path.write_bytes(KEY_SET)
    return Tokens(ISSUER, AUDIENCE, str(path))


def refused(tokens: Tokens, raw_token: str) -> TokenError:
    with pytest.raises(TokenError) as caught:
        asyncio.run(tokens.find(raw_token))
    assert raw_token[:20] not in str(caught.value) or len(raw_token) < 8
    assert tokens.known(raw_token) is None
    return caught.value


@pytest.mark.parametrize("key_id", PRIVATE)
def test_a_token_of_each_kind_of_key_is_accepted_and_remembered(tokens: Tokens, key_id: str) -> None:
    raw_token = token(key_id, tenant="city")
    grant = asyncio.run(tokens.find(raw_token))
    assert grant is tokens.known(raw_token)
    assert (grant.name, grant.tenant) == ("ann", "city") and grant.id.startswith("jwt:")
    assert grant.allows("predict", "anything") and grant.allows("read", "freeway")
    assert not grant.allows("read", "digits") and not grant.allows("operate", "")


def test_scopes_of_others_allow_nothing(tokens: Tokens) -> None:
    for scope in ("openid profile", "predict", "roadworthy:all", ":", "operate:", 7, {"a": 1}, [["predict:x"], 7]):
        grant = asyncio.run(tokens.find(token(scope=scope)))
        assert isinstance(grant, Grant) and not grant.allowed
    listed = asyncio.run(tokens.find(token(scope=None, scp=["predict:freeway", "other"])))
    assert listed.allowed == {("predict", "freeway")}


def test_a_role_brings_its_verbs_and_one_that_we_do_not_know_brings_nothing(tokens: Tokens) -> None:
    grant = asyncio.run(tokens.find(token(scope=None, roles=["roadworthy:trainer", "other:operator"])))
    assert grant.role == "trainer" and grant.allows("predict", "anything") and not grant.allows("operate", "")
    assert asyncio.run(tokens.find(token(roles=["operator", "roadworthy:root"]))).role == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"nbf": int(time.time()) + 86_400}, "not valid yet"),
        ({"aud": "another"}, "another audience"),
        ({"aud": None}, "without one of"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "without one of"),
        ({"exp": None}, "without one of"),
        ({"sub": None}, "without one of"),
    ],
)
def test_right_keys_and_wrong_claims_are_refused_but_no_guess(
    tokens: Tokens, changed: dict[str, Any], reason: str
) -> None:
    error = refused(tokens, token(**changed))
    assert reason in str(error) and not error.is_guess


def test_half_a_minute_of_clock_difference_is_forgiven(tokens: Tokens) -> None:
    assert asyncio.run(tokens.find(token(exp=int(time.time()) - 10))).name == "ann"


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def forged() -> Iterator[str]:
    """Tokens that nobody with a key of ours has signed."""
    body = _part(claims())
    for algorithm in ("none", "None", "", "HS256"):
        head = _part({"alg": algorithm, "kid": "rsa", "typ": "JWT"})
        signature = hmac.new(RSA_PEM, f"{head}.{body}".encode(), hashlib.sha256).digest()
        yield f"{head}.{body}."
        yield f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"  # a public key as a secret
    yield jwt.encode(claims(), "secret", algorithm="HS256", headers={"kid": "shared"})
    other = ec.generate_private_key(ec.SECP256R1())
    yield jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "ec"})
    yield jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "ec", "jwk": PUBLIC[1]})
    yield jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "unknown"})
    yield jwt.encode(claims(), other, algorithm="ES256")
    yield jwt.encode(claims(), RSA_KEY, algorithm="RS512", headers={"kid": "rsa"})  # another than the key is for
    yield jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "ec"})
    head, _, signature = token().split(".")
    yield f"{head}.{_part(claims(scope='roadworthy:operate'))}.{signature}"
    yield from ("", ".", "..", "...", "a.b.c", "x" * 100_000, "\ud800.é.\x00", f"{head}.{'A' * 7000}.{signature}")
    yield f"{_part({'alg': 'ES256', 'kid': {'a': 1}})}.{body}.{signature}"
    yield f"{_part([[]])}.{body}.{signature}"
    yield jwt.encode({**claims(), "exp": "Infinity"}, other, algorithm="ES256", headers={"kid": "ec"})


def test_no_forgery_opens_anything(tokens: Tokens) -> None:
    for raw_token in forged():
        assert refused(tokens, raw_token).is_guess


def test_strange_claims_of_a_right_key_do_not_crash(tokens: Tokens) -> None:
    for changed in ({"exp": 1e400}, {"exp": "soon"}, {"exp": [1]}, {"aud": {"a": 1}}, {"sub": 7}, {"iat": "x"}):
        refused(tokens, token(**changed))
    assert asyncio.run(tokens.find(token(tenant=[7]))).tenant == ""


def test_a_short_key_is_not_believed() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    published = {**RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": "weak"}
    key_set = KeySet("unused")
    key_set._fetch = lambda: json.dumps({"keys": [published]}).encode()
    tokens = Tokens(ISSUER, AUDIENCE, "unused", key_set=key_set)
    assert "too short" in str(refused(tokens, jwt.encode(claims(), weak, algorithm="RS256", headers={"kid": "weak"})))


class Issuer(BaseHTTPRequestHandler):
    """Publishes `keys`; counts who asks."""

    keys, status, num_asked = KEY_SET, 200, 0

    def do_GET(self) -> None:
        Issuer.num_asked += 1
        self.send_response(Issuer.status)
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(Issuer.keys)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def issuer() -> Iterator[str]:
    Issuer.keys, Issuer.status, Issuer.num_asked = KEY_SET, 200, 0
    server = HTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/jwks"
    server.shutdown()
    server.server_close()


def test_keys_come_from_a_server_and_strange_ids_ask_it_once_a_minute(issuer: str) -> None:
    clock = [1000.0]
    tokens = Tokens(ISSUER, AUDIENCE, issuer, key_set=KeySet(issuer, lambda: clock[0]))
    assert asyncio.run(tokens.find(token())).name == "ann"
    other = ec.generate_private_key(ec.SECP256R1())
    new = jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "new"})
    Issuer.keys = json.dumps(
        {"keys": [{**ECAlgorithm.to_jwk(other.public_key(), as_dict=True), "kid": "new"}]}
    ).encode()
    for _ in range(5):
        refused(tokens, new)
    assert Issuer.num_asked == 1
    clock[0] += 61
    assert asyncio.run(tokens.find(new)).name == "ann" and Issuer.num_asked == 2
    refused(tokens, token("rsa"))  # its key is no longer published


@pytest.mark.parametrize(("status", "body"), [(500, b""), (302, b""), (200, b"{}"), (200, b"\xff"), (200, b"[]")])
def test_an_issuer_that_does_not_answer_keeps_the_old_keys_for_a_day(issuer: str, status: int, body: bytes) -> None:
    clock = [1000.0]
    tokens = Tokens(ISSUER, AUDIENCE, issuer, key_set=KeySet(issuer, lambda: clock[0]))
    asyncio.run(tokens.find(token()))
    Issuer.status, Issuer.keys = status, body
    clock[0] += 3600
    assert asyncio.run(tokens.find(token(sub="bob"))).name == "bob"
    clock[0] += 86_400
    with pytest.raises(IssuerError):
        asyncio.run(tokens.find(token(sub="eve")))


def test_without_a_key_set_no_token_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(IssuerError):
        asyncio.run(Tokens(ISSUER, AUDIENCE, str(tmp_path / "none.json")).find(token()))
    for settings in (("", AUDIENCE, "f"), (ISSUER, "", "f"), (ISSUER, AUDIENCE, "")):
        with pytest.raises(TokenError, match="set all three"):
            Tokens(*settings)
    with pytest.raises(TokenError, match="https"):
        KeySet("http://issuer.example/jwks")
    assert set(parse_keys(KEY_SET)) == {"rsa", "ec", "ed"}
