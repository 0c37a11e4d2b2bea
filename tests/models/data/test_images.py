"""A folder of images by class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.findings import BadDataError
from models.data.images import read_image_folder
from models.data.stored import load, store


def make_folder(folder: Path, mode: str = "RGB", num_each: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("car", "truck"):
        (folder / kind).mkdir(parents=True)
        for i in range(num_each):
            pixels = rng.integers(0, 256, (6, 8, 3) if mode == "RGB" else (6, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder


@pytest.mark.parametrize(("mode", "num_colours"), [("RGB", 3), ("L", 1)])
def test_a_folder_becomes_images(tmp_path: Path, mode: str, num_colours: int) -> None:
    raw, card = read_image_folder(make_folder(tmp_path / "in", mode), "mine")
    assert raw.pixels.shape == (24, num_colours, 6, 8)
    assert card.contract.image_shape == (num_colours, 6, 8)
    assert raw.classes == ("car", "truck")
    store(tmp_path / "kept", raw, card)
    again, same_card = load(tmp_path / "kept")
    assert same_card == card
    np.testing.assert_array_equal(again.pixels, raw.pixels)  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.labels, raw.labels)  # type: ignore[union-attr]


def test_what_is_no_image_or_another_size_is_found(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / "car" / "notes.txt").write_text("hello")
    raw, _ = read_image_folder(folder, "mine")
    assert [(finding.row, finding.severity) for finding in raw.findings] == [("car/notes.txt", "warning")]
    (folder / "car" / "broken.png").write_bytes((folder / "car" / "0.png").read_bytes()[:60])
    (folder / "truck" / "text.jpg").write_text("hello")
    with pytest.raises(BadDataError) as error:
        read_image_folder(folder, "mine")
    assert {finding.row for finding in error.value.findings} == {"car/notes.txt", "car/broken.png", "truck/text.jpg"}
    (folder / "car" / "broken.png").unlink()
    (folder / "truck" / "text.jpg").unlink()
    Image.new("RGB", (9, 9)).save(folder / "truck" / "big.png")
    with pytest.raises(BadDataError, match="9 × 9 RGB"):
        read_image_folder(folder, "mine")


def test_too_few(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="one subfolder for each class"):
        read_image_folder(tmp_path / "nowhere", "mine")
    with pytest.raises(BadDataError, match="at least 2 subfolders"):
        read_image_folder(tmp_path, "mine")
    with pytest.raises(BadDataError, match="at least 10 images"):
        read_image_folder(make_folder(tmp_path / "few", num_each=3), "mine")
