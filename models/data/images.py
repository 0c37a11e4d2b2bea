"""A folder of images, one subfolder for each class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.card import Contract, DatasetCard
from models.data.contract import check_images
from models.data.findings import BadDataError, Finding, capped, refuse
from models.data.grid import natural
from models.data.series import RawImages

SUFFIXES = (".png", ".jpg", ".jpeg")
COLOURS = {"L": "L", "1": "L", "RGB": "RGB", "P": "RGB"}  # how a file's mode is read; any other is refused
IMAGE = "a PNG or JPEG of 8-bit grey or RGB"
MIN_SIDE = 4  # pixels; on less no convolution has anything to look at
Found = tuple[str, int, NDArray[np.uint8]]  # place, label, pixels (C, H, W)


def read_image_folder(
    folder: Path, name: str, title: str = "", licence: str = "unknown", size: tuple[int, int] | None = None
) -> tuple[RawImages, DatasetCard]:
    """PNG and JPEG files, all of one size, all grey or all RGB; other files are reported and left out.

    size: height and width that every image is brought to, its sides stretched apart from each other; None: all must
    have the same size. Raises BadDataError.
    """
    if not folder.is_dir():
        raise BadDataError([Finding("all", "all", "a folder with one subfolder for each class", f"{folder}")], name)
    classes = tuple(sorted((path.name for path in folder.iterdir() if path.is_dir()), key=natural))
    if len(classes) < 2:
        raise BadDataError([Finding("all", "class", "at least 2 subfolders", ", ".join(classes) or "none")], name)
    images, findings = _found(folder, classes, size)
    if not images:
        findings.append(Finding("all", "file", IMAGE, "none"))
    empty = [kind for kind in classes if not _visible(folder / kind)]
    findings += [Finding(kind, "class", "images", "an empty folder") for kind in empty] + _uneven(images)
    refuse(findings := capped(findings), name)
    shape = images[0][2].shape
    stacked = np.stack([pixels for _, _, pixels in images])
    raw = RawImages(stacked, np.array([label for _, label, _ in images]), classes, tuple(findings))
    contract = Contract(max_missing_share=0, classes=classes, image_shape=(shape[0], shape[1], shape[2]))
    checked = check_images(raw, contract)
    card = DatasetCard(
        name=name,
        task="classify",
        title=title or name,
        source="brought by the user",
        licence=licence,
        span=f"{len(images)} images of {_size(shape)}",
        missing_share=0.0,
        contract=contract,
    )
    return replace(raw, findings=checked.findings), card


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _uneven(images: list[Found]) -> list[Finding]:
    """Images of another size or of other colours than most, and what is too small to be one."""
    findings: list[Finding] = []
    sizes = [f"{pixels.shape[2]} × {pixels.shape[1]}" for _, _, pixels in images]
    colours = ["grey" if len(pixels) == 1 else "RGB" for _, _, pixels in images]
    hint = ", as most; --size WIDTHxHEIGHT brings all to one"
    for column, got, more in (("size", sizes, hint), ("colour", colours, ", as most")):
        most = max(set(got), key=got.count) if got else ""
        odd = [(row, value) for (row, _, _), value in zip(images, got, strict=True) if value != most]
        findings += [Finding(row, column, f"{most}{more}", value) for row, value in odd]
    small = [
        (row, size) for (row, _, pixels), size in zip(images, sizes, strict=True) if min(pixels.shape[1:]) < MIN_SIDE
    ]
    return findings + [Finding(row, "size", f"at least {MIN_SIDE} × {MIN_SIDE}", size) for row, size in small]


def _found(folder: Path, classes: tuple[str, ...], size: tuple[int, int] | None) -> tuple[list[Found], list[Finding]]:
    """Place, label and pixels of every image, and what is none."""
    strays = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    findings = [Finding(name, "file", "only folders", "a file, left out", 1, "warning") for name in strays]
    images: list[Found] = []
    for label, kind in enumerate(classes):
        for path in _visible(folder / kind):
            row = f"{kind}/{path.name}"
            if path.suffix.lower() not in SUFFIXES:
                findings.append(Finding(row, "file", IMAGE, "another file, left out", 1, "warning"))
                continue
            pixels, got = _pixels(path, size)
            if pixels is None:
                findings.append(Finding(row, "file", IMAGE, got))
            else:
                images.append((row, label, pixels))
    return images, findings


def _pixels(path: Path, size: tuple[int, int] | None) -> tuple[NDArray[np.uint8] | None, str]:
    """Pixels (C, H, W), or what the file is instead."""
    # Whether a file is an image Pillow says only by raising; every bad file must become a finding, not the first one.
    try:
        with Image.open(path) as image:
            mode = COLOURS.get(image.mode)
            if mode is None:
                return None, f"mode {image.mode}"
            converted = image.convert(mode)
            if size is not None:
                converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(converted, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, f"unreadable: {type(error).__name__}"
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), ""


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} × {shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"
