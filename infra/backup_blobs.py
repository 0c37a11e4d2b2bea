"""Pieces of a backup: named by their content, compressed, sealed where a key is given.

A file or object is cut into pieces of 8 MiB; each is one object of the backup's store, `blobs/<two digits>/<name>`. The
same bytes are kept once, so a second backup adds only what is new. A sealed piece (AES-256-GCM) has a key of its own,
derived from the backup's key and the piece's hash, and its name is a keyed hash: a store tells a stranger neither what
it holds nor whether it holds a file that he knows.
"""

import hmac
import os
import zlib
from collections.abc import Iterator
from functools import cached_property
from hashlib import scrypt, sha256
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from infra.keys import KeyFileError
from infra.objects import IntegrityError, NotThereError, Store, hash_of

PIECE_BYTES = 8 << 20
PLAIN, PACKED = b"\0", b"\1"  # the first byte of a piece: as it is, or compressed with zlib
NUM_NONCE_BYTES, NUM_SALT_BYTES, MIN_SECRET_BYTES = 12, 16, 16
ENCRYPTION = "encryption.json"


class Derivation(BaseModel):
    """How the key of a place follows from a secret (RFC 7914), and a check that tells a wrong secret at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str
    check: str = ""
    n: int = 1 << 15
    r: int = 8
    p: int = 1

    def key(self, secret: bytes) -> bytes:
        """32 bytes."""
        return scrypt(secret, salt=bytes.fromhex(self.salt), n=self.n, r=self.r, p=self.p, maxmem=1 << 27, dklen=32)


class Cipher:
    """Seals and names the pieces of one place. It never prints its keys."""

    def __init__(self, key: bytes) -> None:
        self._names = hmac.digest(key, b"names", "sha256")
        self._pieces = hmac.digest(key, b"pieces", "sha256")

    def name(self, piece: str) -> str:
        """The name under which the piece with this SHA-256 is kept."""
        return hmac.digest(self._names, piece.encode(), "sha256").hex()

    def seal(self, piece: str, data: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(NUM_NONCE_BYTES)
        return nonce + AESGCM(self._key(piece)).encrypt(nonce, data, piece.encode())

    def open(self, piece: str, data: bytes) -> bytes:
        """Raises IntegrityError for bytes that this key did not seal."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._key(piece)).decrypt(data[:NUM_NONCE_BYTES], data[NUM_NONCE_BYTES:], piece.encode())
        except InvalidTag:
            raise IntegrityError(f"piece {piece[:12]}: expected bytes sealed with this key, got others") from None

    def _key(self, piece: str) -> bytes:
        return hmac.digest(self._pieces, piece.encode(), "sha256")


def open_cipher(store: Store, secret: bytes) -> Cipher:
    """The cipher of a place; its first use draws the salt. Raises KeyFileError for a secret that is not its own."""
    if len(secret) < MIN_SECRET_BYTES:
        raise KeyFileError(f"backup key: expected at least {MIN_SECRET_BYTES} bytes, got {len(secret)}")
    try:
        known = Derivation.model_validate_json(store.get_bytes(ENCRYPTION))
    except NotThereError:
        drawn = Derivation(salt=os.urandom(NUM_SALT_BYTES).hex())
        known = drawn.model_copy(update={"check": _check(drawn.key(secret))})
        store.put_bytes(ENCRYPTION, known.model_dump_json().encode(), if_absent=True)
    key = known.key(secret)
    if not hmac.compare_digest(known.check, _check(key)):
        raise KeyFileError(f"backup key: not the one that the backups in {store.uri} are sealed with; name that one")
    return Cipher(key)


def _check(key: bytes) -> str:
    return hmac.digest(key, b"check", "sha256").hex()


class Blobs:
    """The pieces in a backup's store. Safe to use from several threads."""

    def __init__(self, store: Store, cipher: Cipher | None = None) -> None:
        self.store = store
        self.cipher = cipher
        self.num_new = self.num_new_bytes = 0

    @cached_property
    def there(self) -> set[str]:
        """Keys of all pieces that the store had at the first question, and of those put since."""
        return {found.key for found in self.store.list("blobs")}

    def key(self, piece: str) -> str:
        """The object that holds the piece with this SHA-256."""
        name = self.cipher.name(piece) if self.cipher else piece
        return f"blobs/{name[:2]}/{name}"

    def has(self, piece: str) -> bool:
        return self.key(piece) in self.there

    def put(self, data: bytes) -> str:
        """Keep a piece; returns its SHA-256. What is there already costs nothing."""
        piece = hash_of(data)
        key = self.key(piece)
        if key not in self.there:
            stored = encoded(data, piece, self.cipher)
            self.store.put_bytes(key, stored)
            self.there.add(key)
            self.num_new, self.num_new_bytes = self.num_new + 1, self.num_new_bytes + len(stored)
        return piece

    def put_all(self, file: BinaryIO) -> tuple[str, ...]:
        """Keep what is left of `file`, piece after piece; an empty file has none."""
        return tuple(self.put(data) for data in _pieces(file))

    def get(self, piece: str) -> bytes:
        """Raises NotThereError, IntegrityError."""
        return decoded(self.store.get_bytes(self.key(piece)), piece, self.cipher)


def encoded(data: bytes, piece: str, cipher: Cipher | None) -> bytes:
    """The bytes that are stored for `data`, whose SHA-256 is `piece`."""
    packed = zlib.compress(data, 1)
    stored = PACKED + packed if len(packed) < 0.9 * len(data) else PLAIN + data
    return cipher.seal(piece, stored) if cipher else stored


def decoded(stored: bytes, piece: str, cipher: Cipher | None) -> bytes:
    """What `encoded` was given. Raises IntegrityError when it is not that."""
    opened = cipher.open(piece, stored) if cipher else stored
    try:
        data = zlib.decompress(opened[1:]) if opened[:1] == PACKED else opened[1:]
    except zlib.error:
        data = b""
    if (got := sha256(data).hexdigest()) != piece:
        raise IntegrityError(f"piece {piece[:12]}: expected its sha256, got {got[:12]}: the backup is damaged there")
    return data


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(PIECE_BYTES):
        yield data
