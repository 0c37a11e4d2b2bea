"""Sealed weights: a stolen image or disk yields no model without the key.

`model.onnx` is replaced by `model.onnx.sealed`: AES-256-GCM, whose associated data is the header and the digest of the
parcel's manifest, so that a sealed graph opens only in its own parcel. The manifest stays as it is: the digest of the
parcel is the same sealed or not, and the plaintext is held against it after it was opened. Plaintext is never written.
Contract, card and golden request are not secret and stay readable.

File: 8 bytes format, 16 bytes key id, 12 bytes nonce (random), then ciphertext with its 16-byte tag.
NIST SP 800-38D; a random 96-bit nonce allows 2^32 sealings under one key.
"""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from models.artifact.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    PARCEL_FILES,
    Manifest,
    ParcelError,
    check_contents,
    parse_manifest,
    read_contents,
    read_verified,
)

SEALED_FILE = "model.onnx.sealed"
NUM_KEY_BYTES = 32
_SEALED_FILES = (PARCEL_FILES - {MODEL_FILE}) | {SEALED_FILE}
_FORMAT = b"RWSEAL1\n"
_NUM_ID_BYTES, _NUM_NONCE_BYTES, _NUM_TAG_BYTES = 16, 12, 16


class _Parts(NamedTuple):
    header: bytes
    key_id: bytes
    nonce: bytes
    ciphertext: bytes


def seal_key_id(key: bytes) -> str:
    """Which key it is, in 32 hex digits, without saying anything of the key."""
    return hashlib.sha256(b"roadworthy seal key id\n" + key).hexdigest()[: 2 * _NUM_ID_BYTES]


def is_sealed(folder: Path) -> bool:
    """Whether the parcel in `folder` needs a key."""
    return (folder / SEALED_FILE).is_file()


def seal(folder: Path, target: Path, key: bytes) -> str:
    """Write a sealed copy of a parcel to `target`, a new folder; returns the parcel's digest, which is unchanged.

    Raises ParcelError for a parcel that is none and for a key of another length, FileExistsError when `target` exists.
    """
    manifest, contents = read_verified(folder)
    sealed = _encrypt(manifest, contents[MODEL_FILE], _checked(folder, key))
    target.mkdir(parents=True)
    (target / SEALED_FILE).write_bytes(sealed)
    for name in sorted(PARCEL_FILES - {MODEL_FILE}):
        (target / name).write_bytes(contents[name])
    (target / MANIFEST_FILE).write_bytes((folder / MANIFEST_FILE).read_bytes())
    return manifest.digest()


def read_parcel(
    folder: Path, seal_key: bytes | None = None, contents: Mapping[str, bytes] | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and verified plaintext of a parcel, sealed or not; the key is not looked at where nothing is sealed.

    contents: what was read already, by name with the manifest's, e.g. by `signature.read_signed`; then nothing is read
        again, and nothing can change between that check and the use.
    Raises ParcelError: as `read_verified`, and for a key that is missing or wrong, or sealed weights that were changed.
    """
    if contents is None:
        contents = read_contents(folder, _SEALED_FILES if is_sealed(folder) else PARCEL_FILES)
    found = dict(contents)
    manifest = parse_manifest(folder, found)
    if SEALED_FILE in found:
        if MODEL_FILE in found:
            raise ParcelError(
                f"parcel {folder.name}: expected {MODEL_FILE} sealed or plain, got both; it is not opened"
            )
        found[MODEL_FILE] = _decrypt(folder, manifest, found.pop(SEALED_FILE), seal_key)
    return manifest, check_contents(folder, manifest, found)


def _encrypt(manifest: Manifest, model: bytes, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NUM_NONCE_BYTES)
    header = _FORMAT + bytes.fromhex(seal_key_id(key)) + nonce
    return header + AESGCM(key).encrypt(nonce, model, _associated(header, manifest))


def _decrypt(folder: Path, manifest: Manifest, sealed: bytes, key: bytes | None) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parts = _parts(folder, sealed)
    if key is None:
        raise _refusal(
            folder,
            f"its weights are sealed with key {parts.key_id.hex()[:12]}, and no key was given: set "
            "ROADWORTHY_SERVE_SEAL_KEY_FILE or ROADWORTHY_SERVE_SEAL_KEY_COMMAND",
        )
    if bytes.fromhex(seal_key_id(_checked(folder, key))) != parts.key_id:
        raise _refusal(
            folder, f"its weights are sealed with key {parts.key_id.hex()[:12]}, got key {seal_key_id(key)[:12]}"
        )
    try:  # the library's only way of saying no
        return AESGCM(key).decrypt(parts.nonce, parts.ciphertext, _associated(parts.header, manifest))
    except InvalidTag:
        raise _refusal(folder, f"{SEALED_FILE} was changed, or is of another parcel") from None


def _parts(folder: Path, sealed: bytes) -> _Parts:
    end = len(_FORMAT) + _NUM_ID_BYTES + _NUM_NONCE_BYTES
    if not sealed.startswith(_FORMAT) or len(sealed) < end + _NUM_TAG_BYTES:
        raise _refusal(folder, f"{SEALED_FILE}: expected sealed weights, got something else")
    key_id = sealed[len(_FORMAT) : len(_FORMAT) + _NUM_ID_BYTES]
    return _Parts(sealed[:end], key_id, sealed[end - _NUM_NONCE_BYTES : end], sealed[end:])


def _associated(header: bytes, manifest: Manifest) -> bytes:
    return header + bytes.fromhex(manifest.digest())


def _checked(folder: Path, key: bytes) -> bytes:
    if len(key) != NUM_KEY_BYTES:
        raise _refusal(folder, f"expected a seal key of {NUM_KEY_BYTES} bytes, got {len(key)}")
    return key


def _refusal(folder: Path, reason: str) -> ParcelError:
    return ParcelError(f"parcel {folder.name}: {reason}; it is not opened")
