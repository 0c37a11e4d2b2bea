"""Verifies a whole release folder, as a Bento or an image holds it.

The parcel alone does not say what is served: so do its release and the plan, and its service refuses all three.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from models.artifact.manifest import MANIFEST_FILE
from models.artifact.signature import SignatureError, read_signed, read_signed_file
from services.host import PLAN_FILE, PLAN_SIGNATURE
from services.runtime import PARCEL_FOLDER, RELEASE_FILE


def is_release(folder: Path) -> bool:
    """Whether the folder is what a service is pointed at, rather than a parcel."""
    return (folder / RELEASE_FILE).is_file() and (folder / PARCEL_FOLDER).is_dir()


def verify_release(folder: Path, trusted: Sequence[bytes]) -> tuple[str, str, tuple[str, ...]]:
    """The key's id, the main parcel's digest and every file that was signed: parcels, their releases, the plan.

    Raises SignatureError naming the first that is not as it was signed.
    """
    places = [folder, *sorted(path.parent for path in folder.glob(f"models/*/*/{RELEASE_FILE}"))]
    digests, files, key = [], [], ""
    for place in places:
        key, contents = read_signed(place / PARCEL_FOLDER, place / f"{PARCEL_FOLDER}.sig", trusted)
        _, release = read_signed_file(place / RELEASE_FILE, place / "release.sig", trusted)
        digests.append(_digest(place, contents, json.loads(release)))
        names = [RELEASE_FILE, *(f"{PARCEL_FOLDER}/{name}" for name in contents)]
        files += [str((place / name).relative_to(folder)) for name in names]
    read_signed_file(folder / PLAN_FILE, folder / PLAN_SIGNATURE, trusted)
    return key, digests[0], (*files, PLAN_FILE)


def _digest(place: Path, contents: Mapping[str, bytes], release: Mapping[str, str]) -> str:
    """The parcel's digest; raises SignatureError where the release is of another parcel, though both are signed."""
    digest = sha256(contents[MANIFEST_FILE]).hexdigest()
    if digest != (expected := release["parcel_digest"]):
        raise SignatureError(f"{place.name}: its release is of parcel {expected[:12]}, got {digest[:12]}")
    return digest
