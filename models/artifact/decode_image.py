"""Decodes one PNG or JPEG into the pixels that training would have read from the same file.

As `models.data.images` does: 1-bit and 8-bit grey are grey, RGB and palettes are RGB, anything else is refused, and a
picture is never resized. The size is compared while only the header has been read, so no file can unfold in memory.
"""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.artifact import wire
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest

COLOURS = {"L": "L", "1": "L", "RGB": "RGB", "P": "RGB"}  # how a file's mode is read, as in training
# All that Pillow was seen to raise on damaged bytes; it promises no more than "OSError or another".
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def decode_image(manifest: Manifest, body: bytes, form: str) -> wire.Request:
    """Pixels [1, C, H, W] in 0..1 of a picture; raises InputError.

    form: "PNG" or "JPEG"; a file of another kind under that name is refused. A grey picture for an RGB model repeats
    its grey; a picture for a grey model must be grey, be it stored as RGB.
    """
    num_channels, height, width = manifest.image_shape or (0, 0, 0)
    expected = f"a whole {form}"
    try:  # whether bytes are a picture Pillow says only by raising; a client needs it as an InputError
        with Image.open(io.BytesIO(body), formats=[form]) as image:
            size, mode = image.size, image.mode
            if size != (width, height):
                raise InputError("wrong size", "image", f"{width} × {height} pixels", f"{size[0]} × {size[1]}")
            if mode not in COLOURS:
                raise InputError("wrong kind of picture", "image", "8-bit grey or RGB, no transparency", f"mode {mode}")
            pixels = np.asarray(image.convert(COLOURS[mode]), np.uint8)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError("unreadable picture", "image", expected, f"{len(body)} bytes: {_said(error)}") from error
    planes = _planes(pixels, num_channels)
    return wire.Request({"x": planes[None].astype(np.float32) / np.float32(255)}, is_list=False)


def _planes(pixels: NDArray[np.uint8], num_channels: int) -> NDArray[np.uint8]:
    """[H, W] or [H, W, 3] as [C, H, W]."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if len(planes) == num_channels:
        return planes
    if num_channels == 1:
        if not (planes == planes[:1]).all():
            raise InputError("coloured picture", "image", "grey: convert it first", "pixels of several colours")
        return planes[:1]
    if len(planes) != 1:
        raise InputError("wrong kind of picture", "image", f"{num_channels} channels", f"{len(planes)}")
    return planes.repeat(num_channels, axis=0)


def _said(error: BaseException) -> str:
    """What went wrong, without the address of an object that Pillow puts into its text."""
    text = str(error).partition("<_io")[0].strip()
    return f"{type(error).__name__} {text}"[:120]
