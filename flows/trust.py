"""Signs what is packed, verifies what is there, seals weights and ledgers with our keys.

A parcel is signed once: the signature of a digest with a key is kept under HOME/signatures, so packing it again packs
the same bytes. A sealed copy is signed anew, since every sealing has its own nonce.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.live import live_model, live_products, parcel_folder
from flows.options import UsageError
from flows.trust_release import is_release, verify_release
from flows.workshop import Workshop, now
from infra import crypto, seals, signing
from infra.atomic import write_atomic
from infra.keys import key_from_file
from infra.seals import SealCheck
from infra.signing import SigningKey
from models.artifact.manifest import MANIFEST_FILE, ParcelError, check_contents, parse_manifest, read_and_verify
from models.artifact.sealed import is_sealed, seal, seal_key_id
from models.artifact.signature import SignatureError, read_signed, trusted_keys

SIGNATURES = "signatures"
SUFFIX = ".sig"


@dataclass(frozen=True)
class Verified:
    """A folder that is as it was signed; `digest` is its parcel's, empty where it holds none."""

    folder: Path
    signature: Path
    key_id: str
    digest: str
    files: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verified": True,
            "folder": str(self.folder),
            "signature": str(self.signature),
            "key": self.key_id,
            "digest": self.digest,
            "files": list(self.files),
        }


def own_key(shop: Workshop) -> SigningKey:
    """The signing key of this home, made on the first call. Raises KeyFileError."""
    return signing.signing_key(shop.home, _passphrase(shop))


def signed(shop: Workshop, folder: Path, digest: str) -> tuple[bytes, bytes]:
    """The signature bundle over the parcel in `folder`, whose digest this is, and the public key (PEM).

    Raises ParcelError when the parcel is not of this digest, or not what was signed under it before.
    """
    key = own_key(shop)
    return _signature(shop, folder, digest, key).read_bytes(), key.public


def sign_parcel(shop: Workshop, folder: Path) -> Path:
    """The signature of the parcel in `folder`, in HOME/signatures. Raises ParcelError for one that does not hold."""
    return _signature(shop, folder, _named_digest(folder), own_key(shop))


def signed_content(shop: Workshop, content: bytes) -> bytes:
    """The signature bundle over a file with this content, made once."""
    key = own_key(shop)
    place = shop.home / SIGNATURES / f"file-{sha256(content).hexdigest()}-{key.id[:16]}{SUFFIX}"
    if not place.exists():
        with TemporaryDirectory(dir=_made(place.parent)) as staging:
            file = Path(staging) / "file"
            file.write_bytes(content)
            write_atomic(place, signing.sign_folder(file, file.with_suffix(SUFFIX), key).read_bytes())
    return place.read_bytes()


def seal_parcel(folder: Path, target: Path, key: bytes) -> Path:
    """A copy of the parcel in `target` whose weights open only with this key. Raises ParcelError, UsageError."""
    if target.exists():
        raise UsageError(f"{target}: expected a place for a new folder, got one that exists")
    seal(folder, target, key)
    return target


def seal_key(shop: Workshop) -> bytes:
    """The key of this home for sealed weights, HOME/keys/seal.key, made on the first call. Raises KeyFileError."""
    return key_from_file(shop.home / "keys" / "seal.key")


def named_parcel(shop: Workshop, name: str) -> tuple[Path, str]:
    """The folder that is meant, on this disk or of the live parcel, and the digest that the ledger gives it.

    The digest is empty for a folder. Raises UsageError for a name that is neither.
    """
    if name in (known := live_products(shop)):
        live = live_model(shop, name)
        return parcel_folder(shop, live.digest), live.digest
    if Path(name).is_dir():
        return Path(name).resolve(), ""
    raise UsageError(f"{name}: expected a live product or a folder, got neither; live: {', '.join(known) or 'none'}")


def verify(shop: Workshop, name: str, signature: Path | None = None, keys: Path | None = None) -> Verified:
    """Hold a parcel's folder, a release folder (all of it), or the live parcel of a product against its signature.

    signature: default: FOLDER.sig beside the folder, else the one that this home has made
    keys: public keys to believe, a file or a folder; default: those of this home
    Raises SignatureError, UsageError.
    """
    folder, expected = named_parcel(shop, name)
    trusted = trusted_keys(keys) if keys else signing.trusted_public_keys(shop.home)
    if not trusted:
        raise UsageError(f"{name}: no key to believe: name one with --key, or sign something: roadworthy sign {name}")
    if not signature and is_release(folder):
        key_id, digest, files = verify_release(folder, trusted)
        return Verified(folder, folder / "parcel.sig", key_id, digest, files)
    place = signature or _found(shop, folder)
    key_id, contents = read_signed(folder, place, trusted)
    digest = sha256(contents[MANIFEST_FILE]).hexdigest() if MANIFEST_FILE in contents else ""
    if expected and digest != expected:  # whole and signed by us, but another parcel
        raise SignatureError(f"{name}: expected the live parcel {expected[:12]}, got {digest[:12]}; it is not opened")
    return Verified(folder, place, key_id, digest, tuple(contents))


def sign_named(shop: Workshop, name: str, *, new_key: bool = False) -> dict[str, Any]:
    """Sign a live parcel, or a folder, whose signature is put beside it. Raises UsageError, ParcelError."""
    key = signing.rotate_signing_key(shop.home, _passphrase(shop)) if new_key else own_key(shop)
    folder, expected = named_parcel(shop, name)
    place = _signature(shop, folder, expected or _named_digest(folder), key)
    if not expected:
        place = write_atomic(folder.with_name(folder.name + SUFFIX), place.read_bytes())
    return {
        "name": name,
        "folder": str(folder),
        "signature": str(place),
        "key": key.id,
        "public_key": str(key.file.with_suffix(".pub")),
    }


def seal_named(shop: Workshop, name: str, target: Path, key_file: Path | None, command: str) -> dict[str, Any]:
    """A sealed and signed copy of a parcel in `target`, its signature beside it. Raises UsageError, ParcelError."""
    key = crypto.seal_key(key_file, command) or seal_key(shop)
    folder, _ = named_parcel(shop, name)
    seal_parcel(folder, target, key)
    return {**sign_named(shop, str(target)), "name": name, "seal_key": seal_key_id(key)}


def seal_ledgers(shop: Workshop) -> list[dict[str, Any]]:
    """Sign where each ledger of this home stands; those with nothing new are left out. Raises LedgerError."""
    key = own_key(shop)
    made = [seals.seal_ledger(shop.home, path, key, now) for path in seals.ledgers(shop.home)]
    return [one.model_dump() for one in made if one is not None]


def verify_seals(shop: Workshop) -> list[SealCheck]:
    """Each ledger held against its seals. Raises LedgerError when the seals themselves were changed."""
    return seals.verify_seals(shop.home, signing.trusted_public_keys(shop.home))


def _signature(shop: Workshop, folder: Path, digest: str, key: SigningKey) -> Path:
    """The signature of this digest with this key, made once; a parcel that does not hold is never signed."""
    place = shop.home / SIGNATURES / f"{digest}-{key.id[:16]}{SUFFIX}"
    if is_sealed(folder):
        place = place.with_suffix(f".sealed{SUFFIX}")
    elif place.exists():
        _hold(folder, place, digest, key)
        return place
    else:
        read_and_verify(folder)
    with TemporaryDirectory(dir=_made(place.parent)) as staging:
        fresh = signing.sign_folder(folder, Path(staging) / place.name, key)
        _hold(folder, fresh, digest, key)  # the bytes that were signed, not those that were looked at before
        return write_atomic(place, fresh.read_bytes())


def _hold(folder: Path, signature: Path, digest: str, key: SigningKey) -> None:
    """Raises ParcelError unless the signed bytes are the parcel of this digest; a sealed graph is not opened."""
    _, contents = read_signed(folder, signature, [key.public])
    manifest = parse_manifest(folder, contents)
    if manifest.digest() != digest:
        raise ParcelError(f"parcel {folder.name}: expected digest {digest[:12]}, got {manifest.digest()[:12]}")
    if not is_sealed(folder):
        check_contents(folder, manifest, contents)


def _found(shop: Workshop, folder: Path) -> Path:
    beside = folder.with_name(folder.name + SUFFIX)
    if beside.exists():
        return beside
    kept = (shop.home / SIGNATURES).glob(f"{_named_digest(folder)}-{'?' * 16}{'.sealed' * is_sealed(folder)}{SUFFIX}")
    return max(kept, key=lambda path: path.stat().st_mtime, default=beside)


def _named_digest(folder: Path) -> str:
    """The digest that the manifest gives the parcel, without parsing it: the hash of its canonical bytes."""
    manifest = folder / MANIFEST_FILE
    return sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "no manifest"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _passphrase(shop: Workshop) -> bytes | None:
    secret = shop.config.signing_passphrase
    return secret.get_secret_value().encode() if secret else None
