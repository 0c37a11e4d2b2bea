"""Verifies who signed a folder before it is parsed: OpenSSF model-signing, with keys.

A second, small reader of the bundles that the library `model-signing` writes. Importing the library costs 0.4-0.7 s and
40 MB, and a serving process has 2 s and 160 MB for everything; this reader needs `cryptography` alone, and only when it
is called. It takes less than the library: one algorithm (ECDSA P-256 with SHA-256 over DSSE), one way to list files
(whole files, SHA-256, no symbolic links), no unknown fields, one spelling of base64, and no file that is not signed.
Whatever it takes, the library takes too; tests hold both against each other.

Sources: Sigstore bundle v0.3; DSSE v1.0.2; in-toto Statement v1; model-signing predicate v1.0.
"""

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar

import msgspec

from models.artifact.manifest import ParcelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MAX_SIGNATURE_BYTES = 1 << 20
PAYLOAD_TYPE = "application/vnd.in-toto+json"
KEY_SUFFIXES = (".pub", ".pem")
WHOLE = "."  # the name of the only resource where one file was signed, not a folder
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class SignatureError(ParcelError):
    """A folder that nobody whom we trust has signed as it is; nothing of it was parsed."""


class _Camel(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Bundle and statement spell their fields so."""


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """The predicate spells them so."""


class _PublicKey(_Camel):
    hint: str


class _Material(_Camel):
    public_key: _PublicKey
    tlog_entries: tuple[()]


class _Signed(_Camel):
    sig: str
    keyid: Literal[""]


class _Envelope(_Camel):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[_Signed]


class _Bundle(_Camel):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope


class _Digest(_Plain):
    sha256: str


class _Subject(_Plain):
    name: str
    digest: _Digest


class _Serialization(_Plain):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: bool
    ignore_paths: tuple[str, ...] = ()  # the library skips these files; here a file that is not signed is refused


class _Resource(_Plain):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Predicate(_Plain):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Statement(_Camel):
    kind: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject]
    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


Form = TypeVar("Form", _Bundle, _Statement)


def verify_folder(folder: Path, signature: Path, trusted: Sequence[bytes]) -> str:
    """The id of the trusted key (PEM) that signed every file of `folder` as it is; raises SignatureError."""
    return read_signed(folder, signature, trusted)[0]


def verify_file(file: Path, signature: Path, trusted: Sequence[bytes]) -> str:
    """The id of the trusted key (PEM) that signed this one file; raises SignatureError."""
    return read_signed_file(file, signature, trusted)[0]


def read_signed(folder: Path, signature: Path, trusted: Sequence[bytes]) -> tuple[str, dict[str, bytes]]:
    """The key's id and the very bytes that were verified, by path in the folder; raises SignatureError."""
    key, expected = _statement(signature, trusted)
    paths = _files(folder)
    for reason, names in (
        ("missing", expected.keys() - paths.keys()),
        ("not signed", paths.keys() - expected.keys()),
    ):
        if names:
            _refuse(folder, f"{', '.join(sorted(names))} {reason}")
    return key, {name: _read(folder, path, expected[name]) for name, path in sorted(paths.items())}


def read_signed_file(file: Path, signature: Path, trusted: Sequence[bytes]) -> tuple[str, bytes]:
    """The key's id and the verified content of one file; raises SignatureError."""
    key, expected = _statement(signature, trusted)
    if set(expected) != {WHOLE}:
        _refuse(file, f"{signature.name} is of a folder, expected the signature of one file")
    if file.is_symlink() or not file.is_file():
        _refuse(file, "expected a file, got a link or nothing")
    return key, _read(file, file, expected[WHOLE])


def trusted_keys(place: Path) -> list[bytes]:
    """Every public key (PEM) in a file, or in the *.pub and *.pem of a folder; raises SignatureError for none."""
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.suffix in KEY_SUFFIXES)
    else:
        files = [place] if place.is_file() else []
    keys = [key for file in files for key in _PEM.findall(file.read_bytes())]
    if not keys:
        raise SignatureError(
            f"{place}: expected public keys (PEM) to trust, got none; without one nothing is opened: put signing.pub "
            "there or name its place in ROADWORTHY_SERVE_TRUSTED_KEYS"
        )
    return keys


def key_id(public_key: bytes) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo (DER), of a public key as PEM; raises SignatureError."""
    return hashlib.sha256(_encoded(_load(public_key), "DER")).hexdigest()


def _encoding_to_sign(payload_type: str, payload: bytes) -> bytes:
    """What DSSE signs: type and payload with their lengths, so neither can be taken for the other."""
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)


def _holds(signed: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether this DER signature (ECDSA P-256, SHA-256) of these bytes was made with the private half of the key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:  # the library's only way of saying no
        _load(public_key).verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _statement(signature: Path, trusted: Sequence[bytes]) -> tuple[str, Mapping[str, str]]:
    """The key's id and the signed SHA-256 by name; nothing is believed before the signature holds."""
    if not signature.is_file():
        _refuse(signature, "signature missing; sign the folder: roadworthy sign")
    if signature.stat().st_size > MAX_SIGNATURE_BYTES:
        _refuse(signature, f"expected a signature of at most {MAX_SIGNATURE_BYTES} bytes, got more")
    bundle = _decoded(signature, signature.read_bytes(), _Bundle)
    envelope, hint = bundle.dsse_envelope, bundle.verification_material.public_key.hint
    payload = _base64(signature, envelope.payload)
    known = {hashlib.sha256(_encoded(_load(key), "PEM")).hexdigest(): key for key in trusted}
    if hint not in known:
        _refuse(signature, f"signed with key {hint[:12]}, which is not among the {len(known)} trusted")
    signed = _encoding_to_sign(PAYLOAD_TYPE, payload)
    if not _holds(signed, _base64(signature, envelope.signatures[0].sig), known[hint]):
        _refuse(signature, f"the signature does not hold for key {hint[:12]}: it was changed")
    return key_id(known[hint]), _resources(signature, _decoded(signature, payload, _Statement))


def _resources(signature: Path, statement: _Statement) -> Mapping[str, str]:
    resources = statement.predicate.resources
    digests = {resource.name: resource.digest for resource in resources}
    if not resources or len(digests) != len(resources):
        _refuse(signature, "expected every file named once, got none or one twice")
    if statement.predicate.serialization.allow_symlinks:
        _refuse(signature, "symbolic links were allowed when it was signed; sign it without")
    for name in digests.keys() - {WHOLE}:
        if name.startswith("/") or "\\" in name or not set(name.split("/")).isdisjoint(("", ".", "..")):
            _refuse(signature, f"expected a path inside the folder, got {name!r}")
    root = hashlib.sha256()
    for resource in resources:
        if not re.fullmatch("[0-9a-f]{64}", resource.digest):
            _refuse(signature, f"{resource.name}: expected a SHA-256, got {resource.digest[:64]!r}")
        root.update(bytes.fromhex(resource.digest))
    if root.hexdigest() != statement.subject[0].digest.sha256:
        _refuse(signature, "the digest of the whole does not fit the digests of its files")
    return digests


def _files(folder: Path) -> dict[str, Path]:
    """Every file below the folder, by its path in it; refuses links and whatever is neither file nor folder."""
    if folder.is_symlink() or not folder.is_dir():
        _refuse(folder, "expected a folder, got a link or nothing")
    found: dict[str, Path] = {}
    open_folders = [folder]
    while open_folders:
        for entry in os.scandir(open_folders.pop()):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                open_folders.append(path)
            elif entry.is_file(follow_symlinks=False):
                found[path.relative_to(folder).as_posix()] = path
            else:
                _refuse(folder, f"{path.relative_to(folder).as_posix()} is a link or no file")
    return found


def _read(place: Path, path: Path, expected: str) -> bytes:
    content = path.read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        _refuse(place, f"{path.name} was changed after it was signed: expected SHA-256 {expected}, got {got}")
    return content


def _load(public_key: bytes) -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:  # the library's only way of saying that text is no key
        key = load_pem_public_key(public_key)
    except ValueError as error:
        raise SignatureError(f"trusted key: expected a public key as PEM, got {public_key[:40]!r}") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise SignatureError("trusted key: expected an EC key on P-256, got another kind; make one: roadworthy sign")
    return key


def _encoded(key: "EllipticCurvePublicKey", encoding: Literal["DER", "PEM"]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(getattr(Encoding, encoding), PublicFormat.SubjectPublicKeyInfo)


def _decoded(signature: Path, content: bytes, form: type[Form]) -> Form:
    try:  # msgspec has no other way to say that text is not of this form
        return msgspec.json.decode(content, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SignatureError(f"{signature.name}: not a signature that is understood: {error}; sign again") from error


def _base64(signature: Path, text: str) -> bytes:
    """Only the one spelling that an encoder writes: no stray characters, no loose bits."""
    try:  # binascii has no other way to say that text is not base64
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError(f"{signature.name}: expected base64, got {text[:20]!r}") from error
    if base64.b64encode(content).decode() != text:
        _refuse(signature, "expected base64 as an encoder writes it, got another spelling")
    return content


def _refuse(place: Path, reason: str) -> NoReturn:
    raise SignatureError(f"{place.name}: {reason}; it is not opened")
