"""Our reader of signatures is held against the library that writes them, on sound and on tampered folders."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infra.signing import SigningKey, sign_folder, signing_key
from models.artifact.signature import (
    MAX_SIGNATURE_BYTES,
    PAYLOAD_TYPE,
    SignatureError,
    key_id,
    read_signed,
    read_signed_file,
    trusted_keys,
    verify_file,
    verify_folder,
)

CONTENTS = {"manifest.json": b"{not even json", "model.onnx": b"\x08\x0a" * 40, "more/card.md": b"# a card\n"}
MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return signing_key(tmp_path_factory.mktemp("home"))


@pytest.fixture
def signed(tmp_path: Path, key: SigningKey) -> tuple[Path, Path]:
    """A folder and its signature, made by the library."""
    folder = tmp_path / "parcel"
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder, sign_folder(folder, tmp_path / "parcel.sig", key)


def library_takes(folder: Path, signature: Path, key: SigningKey) -> bool:
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key.file.with_suffix(".pub"))
    try:
        config.verify(folder, signature)
    except Exception:  # it raises whatever its parsers raise
        return False
    return True


def we_take(folder: Path, signature: Path, key: SigningKey) -> bool:
    try:
        verify_folder(folder, signature, [key.public])
    except SignatureError:
        return False
    return True


def both(folder: Path, signature: Path, key: SigningKey) -> tuple[bool, bool]:
    return we_take(folder, signature, key), library_takes(folder, signature, key)


def test_both_take_what_the_library_signed_and_nothing_is_parsed(signed: tuple[Path, Path], key: SigningKey) -> None:
    assert both(*signed, key) == (True, True)
    got, contents = read_signed(*signed, [key.public])
    assert got == key.id == key_id(key.public)
    assert contents == CONTENTS


@MANY
@given(place=st.sampled_from(sorted(CONTENTS)), position=st.integers(0, 7), bit=st.integers(0, 7))
def test_both_refuse_any_flipped_bit_of_a_file(
    signed: tuple[Path, Path], key: SigningKey, place: str, position: int, bit: int
) -> None:
    folder, signature = signed
    content = bytearray(CONTENTS[place])
    content[position] ^= 1 << bit
    (folder / place).write_bytes(content)
    assert both(folder, signature, key) == (False, False)
    (folder / place).write_bytes(CONTENTS[place])


@MANY
@example(position=0, value=0)
@given(position=st.integers(0), value=st.integers(0, 255))
def test_any_changed_byte_of_a_signature_is_refused(
    signed: tuple[Path, Path], key: SigningKey, position: int, value: int
) -> None:
    folder, signature = signed
    sound = signature.read_bytes()
    position %= len(sound)
    changed = sound[:position] + bytes([value if value != sound[position] else value ^ 1]) + sound[position + 1 :]
    signature.write_bytes(changed)
    assert not we_take(folder, signature, key)
    if library_takes(folder, signature, key):  # it overlooks other names of optional fields, and loose bits of base64
        assert meaning(json.loads(changed)) == meaning(json.loads(sound))
    signature.write_bytes(sound)


def meaning(bundle: Any) -> tuple[bytes, bytes]:
    envelope = bundle["dsseEnvelope"]
    return base64.b64decode(envelope["payload"]), base64.b64decode(envelope["signatures"][0]["sig"])


def add(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")

    return change


def link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


TAMPERED = [
    (lambda folder: (folder / "model.onnx").unlink(), r"parcel: model\.onnx missing"),
    (lambda folder: (folder / "model.onnx").rename(folder / "other.onnx"), "missing|not signed"),
    (add("added"), "added not signed"),
    (add("more/added"), "more/added not signed"),
    (link, "model.onnx is a link or no file"),
    (lambda folder: (folder / "out").symlink_to(folder.parent), "out is a link or no file"),
    (lambda folder: folder.symlink_to(folder.rename(folder.with_name("moved"))), "expected a folder, got a link"),
    (lambda folder: os.mkfifo(folder / "pipe"), "pipe is a link or no file"),
]


@pytest.mark.parametrize(("change", "message"), TAMPERED)
def test_both_refuse_a_changed_folder(
    signed: tuple[Path, Path], key: SigningKey, change: Callable[[Path], None], message: str
) -> None:
    change(signed[0])
    with pytest.raises(SignatureError, match=message):
        verify_folder(*signed, [key.public])
    assert not library_takes(*signed, key)


def test_only_a_trusted_key_counts_and_there_may_be_several(signed: tuple[Path, Path], key: SigningKey, tmp_path: Path):
    other = signing_key(tmp_path / "other")
    with pytest.raises(SignatureError, match="which is not among the 1 trusted"):
        verify_folder(*signed, [other.public])
    with pytest.raises(SignatureError, match="not among the 0 trusted"):
        verify_folder(*signed, [])
    assert verify_folder(*signed, [other.public, key.public]) == key.id


def statement(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = [hashlib.sha256(path.read_bytes()) for path in files]
    names = [path.relative_to(folder).as_posix() for path in files]
    root = hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()
    pairs = zip(names, digests, strict=True)
    resources = [{"name": name, "algorithm": "sha256", "digest": digest.hexdigest()} for name, digest in pairs]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "parcel", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": resources,
        },
    }


def bundle(content: dict[str, Any], key: SigningKey, signer: SigningKey | None = None) -> dict[str, Any]:
    """What the library would write for this statement, signed with the real key."""
    payload = json.dumps(content).encode()
    signature = {"sig": base64.b64encode((signer or key).sign(PAYLOAD_TYPE, payload)).decode(), "keyid": ""}
    hint = hashlib.sha256(key.public).hexdigest()
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        },
    }


def resource(**fields: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["predicate"]["resources"][0].update(fields)


def predicate(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["predicate"]["serialization"].update(fields)


STATEMENTS = [
    (resource(algorithm="blake2b"), "Invalid enum value 'blake2b'"),
    (resource(name="../manifest.json"), "expected a path inside the folder"),
    (resource(name="/etc/passwd"), "expected a path inside the folder"),
    (resource(name="more//card.md"), "expected a path inside the folder"),
    (resource(name="model.onnx"), "expected every file named once"),
    (resource(digest="00"), "expected a SHA-256"),
    (resource(extra="field"), "unknown field `extra`"),
    (predicate(hash_type="blake3"), "Invalid enum value 'blake3'"),
    (predicate(method="shards"), "Invalid enum value 'shards'"),
    (predicate(allow_symlinks=True), "symbolic links were allowed"),
    (lambda content: content.update(predicateType="https://model_signing/Digests/v0.1"), "Invalid enum value"),
    (lambda content: content.update(_type="https://in-toto.io/Statement/v0.1"), "Invalid enum value"),
    (lambda content: content["predicate"].update(resources=[]), "expected every file named once, got none"),
    (lambda content: content["subject"][0]["digest"].update(sha256="0" * 64), "digest of the whole does not fit"),
    (lambda content: content["subject"].append(content["subject"][0]), "Expected `array` of length 1"),
]


@pytest.mark.parametrize(("change", "message"), STATEMENTS)
def test_a_statement_with_a_sound_signature_must_still_be_the_one_expected(
    signed: tuple[Path, Path], key: SigningKey, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder, signature = signed
    content = statement(folder)
    signature.write_text(json.dumps(bundle(content, key)))
    assert both(folder, signature, key) == (True, True)
    change(content)
    signature.write_text(json.dumps(bundle(content, key)))
    with pytest.raises(SignatureError, match=message):
        verify_folder(folder, signature, [key.public])


def other_forms(folder: Path, key: SigningKey, other: SigningKey) -> Iterator[bytes]:
    sound = bundle(statement(folder), key)
    yield from (b"", b"\xff\xfe", b"[" * 200_000, b"null", b" " * (MAX_SIGNATURE_BYTES + 1))
    yield json.dumps({**sound, "mediaType": "application/vnd.dev.sigstore.bundle.v0.2+json"}).encode()
    yield json.dumps({**sound, "more": 1}).encode()
    yield json.dumps(bundle(statement(folder), key, signer=other)).encode()  # a trusted hint, another's signature
    for field, value in (("payloadType", "text/plain"), ("signatures", []), ("payload", sound["mediaType"])):
        yield json.dumps({**sound, "dsseEnvelope": {**sound["dsseEnvelope"], field: value}}).encode()
    twice = [*sound["dsseEnvelope"]["signatures"]] * 2
    yield json.dumps({**sound, "dsseEnvelope": {**sound["dsseEnvelope"], "signatures": twice}}).encode()
    yield json.dumps({**sound, "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []}}).encode()


def test_whatever_else_lies_there_is_refused_in_words(signed: tuple[Path, Path], key: SigningKey, tmp_path: Path):
    folder, signature = signed
    for content in other_forms(folder, key, signing_key(tmp_path / "other")):
        signature.write_bytes(content)
        with pytest.raises(SignatureError, match=r"^parcel\.sig: "):
            verify_folder(folder, signature, [key.public])
    signature.unlink()
    with pytest.raises(SignatureError, match="signature missing; sign the folder"):
        verify_folder(folder, signature, [key.public])


@pytest.mark.parametrize("name", [".gitignore", ".git/hooks"])
def test_files_that_the_library_ignores_are_refused(signed: tuple[Path, Path], key: SigningKey, name: str) -> None:
    folder, signature = signed
    add(name)(folder)
    assert both(folder, signature, key) == (False, True)  # it ignores them though they were not ignored in signing
    model_signing.signing.Config().use_elliptic_key_signer(private_key=key.file).sign(folder, signature)
    assert both(folder, signature, key) == (False, True)


def test_one_file(signed: tuple[Path, Path], key: SigningKey, tmp_path: Path) -> None:
    file = tmp_path / "service.json"
    file.write_bytes(b"{}")
    signature = sign_folder(file, tmp_path / "service.sig", key)
    assert read_signed_file(file, signature, [key.public]) == (key.id, b"{}")
    assert library_takes(file, signature, key)
    with pytest.raises(SignatureError, match="is of a folder, expected the signature of one file"):
        verify_file(file, signed[1], [key.public])
    file.write_bytes(b"{ }")
    with pytest.raises(SignatureError, match=r"service\.json was changed after it was signed"):
        verify_file(file, signature, [key.public])


def test_keys_to_trust(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "a.pub").write_bytes(key.public * 2)
    (tmp_path / "b.pem").write_bytes(b"a remark\n" + key.public)
    (tmp_path / "c.txt").write_bytes(key.public)
    assert trusted_keys(tmp_path) == [key.public.strip()] * 3
    assert trusted_keys(tmp_path / "a.pub") == [key.public.strip()] * 2
    with pytest.raises(SignatureError, match="expected public keys"):
        trusted_keys(tmp_path / "none")
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = p384.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SignatureError, match="expected an EC key on P-256"):
        key_id(pem)
    with pytest.raises(SignatureError, match="expected a public key as PEM"):
        key_id(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")


def test_it_is_light() -> None:
    heavy = "{'model_signing', 'cryptography'} & set(sys.modules)"
    code = f"import sys, models.artifact.signature, models.artifact.sealed; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "set()\n"
