"""Makes secret keys once, for good: one file each in HOME/keys, readable by its owner only."""

import secrets
from pathlib import Path

from infra.atomic import create_atomic
from infra.settings import Settings

NUM_KEY_BYTES = 32


class KeyFileError(Exception):
    """A key cannot be used; the message says which, what was expected and what to do. It never holds the key."""


def key_from_file(path: Path) -> bytes:
    """The key in `path`, made at random on the first call; of several callers at once, all get the same one.

    Raises KeyFileError when the file is not a key or others may read it, OSError when it cannot be read or made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        create_atomic(path, secrets.token_hex(NUM_KEY_BYTES).encode() + b"\n", mode=0o600)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: expected mode 600, got {mode:o}: others may have read it; chmod 600 if that is fine"
        )
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        raise KeyFileError(f"{path}: expected {NUM_KEY_BYTES} bytes in hex, got something else; restore it") from None
    if len(key) != NUM_KEY_BYTES:
        raise KeyFileError(f"{path}: expected {NUM_KEY_BYTES} bytes in hex, got {len(key)}; restore it from a backup")
    return key


def masking_key(config: Settings) -> bytes:
    """Keys the pseudonyms of personal columns: from the setting, else HOME/keys/masking.key. Raises KeyFileError."""
    if config.masking_key is None:
        return key_from_file(config.folder / "keys" / "masking.key")
    key = config.masking_key.get_secret_value().encode()
    if len(key) < 16:
        raise KeyFileError(f"ROADWORTHY_MASKING_KEY: expected at least 16 bytes, got {len(key)}; or unset it")
    return key
