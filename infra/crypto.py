"""Fetches the key that opens sealed weights: from a file, or from a key service's command.

The command is run once, at start, without a shell; what it prints is the key in hex. So a key can live in a KMS, a
vault or a hardware token, and an image holds neither the key nor a client of ours for any of them.
"""

import shlex
import subprocess
from pathlib import Path

from infra.keys import NUM_KEY_BYTES, KeyFileError

TIMEOUT_S = 30.0


def seal_key(file: Path | None, command: str) -> bytes | None:
    """The key from `file`, else from what `command` prints; None where neither is set. Raises KeyFileError."""
    if file is not None and command:
        raise KeyFileError("seal key: expected a file or a command, got both; unset one")
    if file is not None:
        return _from_file(file)
    return _from_command(command) if command else None


def _from_file(file: Path) -> bytes:
    """Unlike keys of our own it is not made when it is missing, and group may read it: secrets are mounted 0440."""
    if not file.is_file():
        raise KeyFileError(f"seal key: expected a file at {file}, got none; mount it or name another place")
    if file.stat().st_mode & 0o007:
        raise KeyFileError(f"{file}: expected a key that others may not read, got mode {file.stat().st_mode & 0o777:o}")
    return _parsed(file.read_bytes(), str(file))


def _from_command(command: str) -> bytes:
    words = shlex.split(command)
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeyFileError(f"seal key: {words[0]} could not be run: {type(error).__name__}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise KeyFileError(f"seal key: {words[0]} ended with status {done.returncode}: {said}")
    return _parsed(done.stdout, f"the output of {words[0]}")


def _parsed(text: bytes, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != NUM_KEY_BYTES:
        raise KeyFileError(f"{where}: expected a key of {NUM_KEY_BYTES} bytes in hex, got something else")
    return key
