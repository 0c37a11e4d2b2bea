"""A folder of images by class: drawn traffic signs as real files, and everything that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.data.findings import BadDataError
from models.data.images import read_image_folder
from models.data.stored import load, store

SIGNS = ("priority", "stop", "yield")
SHAPES = {"priority": (4, 45), "stop": (8, 22), "yield": (3, 30)}  # corners, and how far the sign is turned
COLOURS = {"priority": (240, 200, 30), "stop": (190, 20, 30), "yield": (230, 230, 230)}


def draw_sign(kind: str, random: np.random.Generator, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """A polygon of the sign's colour somewhere near the middle of a noisy background."""
    width, height = size
    image = Image.fromarray(random.integers(60, 120, (height, width, 3), dtype=np.uint8))
    corners, turn = SHAPES[kind]
    middle = (
        width / 2 + random.uniform(-1, 1),
        height / 2 + random.uniform(-1, 1),
        min(size) * random.uniform(0.3, 0.4),
    )
    ImageDraw.Draw(image).regular_polygon(middle, corners, turn + int(random.integers(-5, 6)), COLOURS[kind])
    return image


def signs(folder: Path, mode: str = "RGB", num_each: int = 12) -> Path:
    random = np.random.default_rng(0)
    for kind in SIGNS:
        (folder / kind).mkdir(parents=True)
        for i in range(num_each):
            suffix = "jpg" if i % 3 == 0 else "png"
            draw_sign(kind, random).convert(mode).save(folder / kind / f"{i}.{suffix}")
    return folder


def refused(folder: Path, **options: tuple[int, int]) -> list[tuple[str, str, str]]:
    with pytest.raises(BadDataError) as error:
        read_image_folder(folder, "signs", **options)  # type: ignore[arg-type]
    return [(f.row, f.column, f.got) for f in error.value.findings if f.severity == "error"]


@pytest.mark.parametrize(("mode", "num_colours"), [("RGB", 3), ("L", 1)])
def test_a_folder_becomes_images(tmp_path: Path, mode: str, num_colours: int) -> None:
    raw, card = read_image_folder(signs(tmp_path / "in", mode), "mine")
    assert raw.pixels.shape == (36, num_colours, 16, 20)
    assert card.contract.image_shape == (num_colours, 16, 20)
    assert raw.classes == SIGNS
    store(tmp_path / "kept", raw, card)
    again, same_card = load(tmp_path / "kept")
    assert same_card == card
    np.testing.assert_array_equal(again.pixels, raw.pixels)  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.labels, raw.labels)  # type: ignore[union-attr]


def test_what_is_no_image_is_found(tmp_path: Path) -> None:
    folder = signs(tmp_path)
    (folder / "stop" / "notes.txt").write_text("hello")
    raw, _ = read_image_folder(folder, "mine")
    assert [(finding.row, finding.severity) for finding in raw.findings] == [("stop/notes.txt", "warning")]
    (folder / "stop" / "broken.png").write_bytes((folder / "stop" / "1.png").read_bytes()[:60])
    (folder / "yield" / "text.jpg").write_text("hello")
    (folder / "yield" / "nothing.png").write_bytes(b"")
    Image.new("CMYK", (20, 16)).save(folder / "yield" / "print.jpg")
    found = {(row, got.partition(":")[0]) for row, _, got in refused(folder)}
    unreadable = {
        ("stop/broken.png", "unreadable"),
        ("yield/text.jpg", "unreadable"),
        ("yield/nothing.png", "unreadable"),
    }
    assert found == unreadable | {("yield/print.jpg", "mode CMYK")}


def test_images_of_several_sizes_are_refused_or_brought_to_one(tmp_path: Path) -> None:
    folder = signs(tmp_path)
    draw_sign("stop", np.random.default_rng(1), (40, 30)).save(folder / "stop" / "large.png")
    with pytest.raises(BadDataError, match=r"20 × 16, as most; --size WIDTHxHEIGHT"):
        read_image_folder(folder, "signs")
    assert refused(folder) == [("stop/large.png", "size", "40 × 30")]
    raw, card = read_image_folder(folder, "signs", size=(24, 32))
    assert raw.pixels.shape == (37, 3, 24, 32) and card.contract.image_shape == (3, 24, 32)


def test_grey_among_colours_is_refused_also_when_resized(tmp_path: Path) -> None:
    folder = signs(tmp_path)
    draw_sign("stop", np.random.default_rng(1)).convert("L").save(folder / "stop" / "grey.png")
    assert refused(folder) == refused(folder, size=(16, 16)) == [("stop/grey.png", "colour", "grey")]


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    folder = signs(tmp_path)
    (folder / "no_entry").mkdir()
    assert refused(folder) == [("no_entry", "class", "an empty folder")]


def test_images_of_a_few_pixels_are_refused(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for i in range(10):
            Image.new("L", (3, 3), i).save(tmp_path / kind / f"{i}.png")
    with pytest.raises(BadDataError, match="at least 4 × 4"):
        read_image_folder(tmp_path, "dots")


def test_too_few(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="one subfolder for each class"):
        read_image_folder(tmp_path / "nowhere", "mine")
    with pytest.raises(BadDataError, match="at least 2 subfolders"):
        read_image_folder(tmp_path, "mine")
    with pytest.raises(BadDataError, match="at least 10 images"):
        read_image_folder(signs(tmp_path / "few", num_each=3), "mine")
