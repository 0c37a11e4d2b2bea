"""Signs what is packed, with OpenSSF model-signing and a key of this home.

One EC P-256 key pair, made once: HOME/keys/signing.key (PKCS 8, 0600, encrypted where a passphrase is given) and
HOME/keys/signing.pub. Keys that were in use before stay trusted in HOME/keys/trusted. What serves verifies with
`models.artifact.signature`, which needs neither this module nor the library.
"""

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.atomic import create_atomic, write_atomic
from infra.keys import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class SigningKey(NamedTuple):
    """A key pair on the disk, opened. It never prints the private half.

    file: PKCS 8 as PEM; public: the public half as PEM; passphrase: what opens the file, None where nothing does
    """

    file: Path
    public: bytes
    passphrase: bytes | None
    private: "EllipticCurvePrivateKey"

    def __repr__(self) -> str:
        return f"SigningKey({self.id[:12]})"

    @property
    def id(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo (DER)."""
        return public_key_id(self.public)

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """DER signature, ECDSA P-256 with SHA-256, of type and payload in DSSE's encoding."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.private.sign(_encoded(payload_type, payload), ECDSA(SHA256()))


def signing_key(home: Path, passphrase: bytes | None = None) -> SigningKey:
    """The key pair of this home, made on the first call; of several callers at once, all get the same one.

    Raises KeyFileError when the file is no such key, others may read it, or the passphrase does not open it.
    """
    path = home / "keys" / "signing.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        create_atomic(path, _new_pem(passphrase), mode=0o600)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: expected mode 600, got {mode:o}: others may have read it; chmod 600 if that is fine"
        )
    key = _opened(path, passphrase)
    public = path.with_suffix(".pub")
    if not public.exists() or public.read_bytes() != key.public:
        write_atomic(public, key.public)
    return key


def rotate_signing_key(home: Path, passphrase: bytes | None = None) -> SigningKey:
    """A new key pair; the old public key stays trusted in HOME/keys/trusted, the old private key is gone."""
    old = signing_key(home, passphrase)
    write_atomic(home / "keys" / "trusted" / f"{old.id[:16]}.pub", old.public)
    write_atomic(old.file, _new_pem(passphrase), mode=0o600)
    return signing_key(home, passphrase)


def trusted_public_keys(home: Path) -> list[bytes]:
    """Public keys (PEM) that this home believes: its own and those in HOME/keys/trusted."""
    files = [home / "keys" / "signing.pub", *sorted((home / "keys" / "trusted").glob("*.pub"))]
    return [file.read_bytes() for file in files if file.is_file()]


def public_key_id(public: bytes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo (DER) of a public key as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    der = load_pem_public_key(public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


def sign_folder(folder: Path, signature: Path, key: SigningKey) -> Path:
    """Write the OpenSSF model-signing bundle over every file of `folder`, or over one file, to `signature`.

    No symbolic links, nothing ignored. Raises ValueError for a folder that holds a link or what is no file.
    """
    from model_signing import hashing, signing  # 0.4 s and 40 MB: nothing that serves comes here

    files: Any = hashing.Config()  # type: ignore[no-untyped-call]
    files.use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    signer: Any = signing.Config()  # type: ignore[no-untyped-call]
    signer.set_hashing_config(files.set_ignored_paths(paths=[], ignore_git_paths=False))
    beside = signature.with_name(f".{signature.name}.part")
    beside.parent.mkdir(parents=True, exist_ok=True)
    # The library types the passphrase as text and hands it to `cryptography`, which takes bytes.
    signer.use_elliptic_key_signer(private_key=key.file, password=key.passphrase).sign(folder, beside)
    bundle = beside.read_bytes()
    beside.unlink()
    return write_atomic(signature, bundle)


def verify(public: bytes, payload_type: str, payload: bytes, signature: bytes) -> bool:
    """Whether `SigningKey.sign` of the private half of this public key (PEM) made this signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public)
    try:
        if not isinstance(key, EllipticCurvePublicKey):
            return False
        key.verify(signature, _encoded(payload_type, payload), ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _new_pem(passphrase: bytes | None) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def _opened(path: Path, passphrase: bytes | None) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        private = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError):  # of which neither may show what is in the file
        raise KeyFileError(f"{path}: expected a key as PEM that the passphrase opens; restore it") from None
    if not isinstance(private, EllipticCurvePrivateKey):
        raise KeyFileError(f"{path}: expected an EC key, got another kind; restore it")
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(path, public, passphrase, private)


def _encoded(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)
