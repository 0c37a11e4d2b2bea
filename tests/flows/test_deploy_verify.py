"""`roadworthy verify` of what a service is pointed at: everything in it that is signed, not the parcel alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.package import package_live
from flows.trust import verify
from flows.workshop import Workshop
from models.artifact.signature import SignatureError
from tests.flows.tiny_home import LIKE, tiny_home

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return tiny_home(tmp_path_factory.mktemp("home"), LIKE)


@pytest.fixture
def release(shop: Workshop, tmp_path: Path) -> Path:
    """A copy of the Bento's source, which is what a service serves."""
    return Path(shutil.copytree(Path(package_live(shop, "tiny").path) / "src", tmp_path / "src"))


def test_a_whole_release_is_held_against_its_signatures(shop: Workshop, release: Path) -> None:
    found = verify(shop, str(release))
    assert {"release.json", "service.json", "parcel/model.onnx"} <= set(found.files)


TAMPERED: dict[str, Callable[[Path], object]] = {
    "model.onnx was changed": lambda folder: (folder / "parcel" / "model.onnx").write_bytes(b"other"),
    "release.json was changed": lambda folder: (folder / "release.json").write_bytes(b'{"version": 7}'),
    "service.json was changed": lambda folder: (folder / "service.json").write_bytes(b"{}"),
    "service.sig: signature missing": lambda folder: (folder / "service.sig").unlink(),
    "parcel.sig: signature missing": lambda folder: (folder / "parcel.sig").unlink(),
}


@pytest.mark.parametrize("reason", TAMPERED)
def test_what_was_changed_is_named(shop: Workshop, release: Path, reason: str) -> None:
    TAMPERED[reason](release)
    with pytest.raises(SignatureError, match=reason):
        verify(shop, str(release))
