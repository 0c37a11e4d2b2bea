"""Draws an explanation: a heat map or bars of effects, a legend, what moved it most.

With Pillow alone: a serving container has no matplotlib. Colours run from blue through white to red (ColorBrewer RdBu),
which the colour-blind tell apart; they grow with the square root of an effect, so that one large effect does not hide
all others, and the legend's ticks say what they stand for.
"""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN = 900, 24
_MAP_LEFT, _MAP_RIGHT, _LIST_LEFT = 96, 596, 636
_TOP, _MIN_HEIGHT, _MAX_HEIGHT = 100, 500, 720
_BELOW = 92  # for the axis and the legend
_INK, _SOFT, _PAPER, _GRID = (28, 32, 38), (96, 104, 114), (255, 255, 255), (225, 228, 232)
_COLOURS = np.array(
    [(5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240), (247, 247, 247),
     (253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31)], np.float64,
)  # fmt: skip
_TICKS = (-1.0, -0.25, 0.0, 0.25, 1.0)  # shares of the largest effect
_ROW_LABEL_PX, _COLUMN_LABEL_PX = 13, 44  # what a label needs

Box = tuple[float, float, float, float]


def draw(answer: dict[str, Any], image: NDArray[np.float32] | None = None) -> bytes:
    """PNG of an answer of `services.explain`; `image` [C, H, W] in 0..1 is what was classified."""
    if isinstance(answer["effects"], dict):
        return _bars(answer)
    effects = np.array(answer["effects"], np.float64)
    largest = float(np.abs(effects).max(initial=0.0)) or 1.0
    box = _map_box(effects.shape, image)
    picture = Image.new("RGB", (WIDTH, int(box[3]) + _BELOW), _PAPER)
    canvas = ImageDraw.Draw(picture)
    _title(canvas, answer)
    if image is None:
        _cells(canvas, box, effects / largest)
        _axes(canvas, box, answer)
    else:
        _pixels(picture, box, effects / largest, answer)
        _sent(picture, box, image)
    _legend(canvas, box, largest, answer["explained"]["units"])
    _list(canvas, answer, image is not None)
    return _png(picture)


def colours(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """RGB [..., 3] of effects as shares of the largest, -1 (blue) to 1 (red)."""
    place = (np.sign(shares) * np.sqrt(np.abs(shares)) + 1) / 2 * (len(_COLOURS) - 1)
    low = np.clip(np.floor(place), 0, len(_COLOURS) - 2).astype(np.int64)
    part = (place - low)[..., None]
    return np.rint(_COLOURS[low] * (1 - part) + _COLOURS[low + 1] * part).astype(np.uint8)


def _map_box(shape: tuple[int, ...], image: NDArray[np.float32] | None) -> Box:
    """Left, top, right and bottom of the map; of an image with its proportions."""
    width = _MAP_RIGHT - _MAP_LEFT
    if image is None:
        height = min(max(22 * shape[0], _MIN_HEIGHT), max(_MAX_HEIGHT, 3 * shape[0]))
        return _MAP_LEFT, _TOP, _MAP_RIGHT, _TOP + height
    height = min(max(round(width * image.shape[1] / image.shape[2]), _MIN_HEIGHT), _MAX_HEIGHT)
    return _MAP_LEFT, _TOP, _MAP_LEFT + min(width, round(height * image.shape[2] / image.shape[1])), _TOP + height


def _title(canvas: ImageDraw.ImageDraw, answer: dict[str, Any]) -> None:
    explained, baseline = answer["explained"], answer["baseline"]
    if "node" in explained:
        what = f"{explained['node']} in {explained['horizon_min']:g} min: {explained['prediction']:.4g} "
        what += explained["units"]
        each = "each reading was " + ("marked missing" if baseline["fill"] == "missing" else "set to its node's mean")
    else:
        what = f"{explained['class']}: probability {explained['prediction']:.4g}"
        each = "each patch was painted " + ("in the mean" if baseline["fill"] == "mean" else "black")
    canvas.text((MARGIN, 18), f"{answer['model_version']} · {what}", _INK, _font(23))
    said = f"What moved this answer. Red raised it, blue lowered it: {each} in turn ({answer['method']})."
    canvas.text((MARGIN, 52), said, _SOFT, _font(14))
    canvas.text((MARGIN, 71), f"Without any of them it would be {baseline['prediction']:.4g}.", _SOFT, _font(14))


def _bars(answer: dict[str, Any]) -> bytes:
    """The labels that moved an answer of a tensor task most, a bar each: to the right what raised it."""
    explained, most = answer["explained"], answer["most"]
    picture = Image.new("RGB", (WIDTH, _TOP + 34 * max(len(most), 1) + MARGIN), _PAPER)
    canvas = ImageDraw.Draw(picture)
    what = f"{explained['output']}: {explained['prediction']:.4g} {explained['units']}".rstrip()
    canvas.text((MARGIN, 18), f"{answer['model_version']} · {what}", _INK, _font(23))
    said = f"What moved this answer. Red raised it, blue lowered it: each was hidden in turn ({answer['method']})."
    canvas.text((MARGIN, 52), said, _SOFT, _font(14))
    canvas.text(
        (MARGIN, 71), f"Without any of them it would be {answer['baseline']['prediction']:.4g}.", _SOFT, _font(14)
    )
    middle, half = (_MAP_RIGHT + _MAP_LEFT) / 2 + 120, (_MAP_RIGHT - _MAP_LEFT) / 2
    largest = max((abs(item["effect"]) for item in most), default=1.0)
    for place, item in enumerate(most):
        top, length = _TOP + 34 * place, half * item["effect"] / largest
        name = ": ".join(part for part in (item["input"], item["label"]) if part)
        canvas.text((MARGIN, top + 4), name[:28], _INK, _font(14))
        box = (min(middle, middle + length), top, max(middle, middle + length), top + 22)
        canvas.rectangle(box, fill=tuple(int(part) for part in colours(np.array(0.5 if length > 0 else -0.5))))
        canvas.text((WIDTH - MARGIN, top + 4), f"{item['effect']:+.3g}", _INK, _font(14), "ra")
    canvas.line((middle, _TOP - 6, middle, _TOP + 34 * len(most)), _GRID)
    if not most:
        canvas.text((MARGIN, _TOP), "nothing did", _SOFT, _font(14))
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def _cells(canvas: ImageDraw.ImageDraw, box: Box, shares: NDArray[np.float64]) -> None:
    filled = colours(shares)
    downs = np.linspace(box[1], box[3], shares.shape[0] + 1)
    acrosses = np.linspace(box[0], box[2], shares.shape[1] + 1)
    gap = 1 if downs[1] - downs[0] > 6 else 0
    for row in range(shares.shape[0]):
        for column in range(shares.shape[1]):
            corners = (acrosses[column], downs[row], acrosses[column + 1] - gap, downs[row + 1] - gap)
            canvas.rectangle(corners, fill=tuple(int(part) for part in filled[row, column]))
    canvas.rectangle(box, outline=_GRID)


def _axes(canvas: ImageDraw.ImageDraw, box: Box, answer: dict[str, Any]) -> None:
    """Nodes beside their rows, the explained one in bold ink; minutes before now under the columns."""
    nodes, lags = answer["nodes"], answer["lags_min"]
    height, width = (box[3] - box[1]) / len(nodes), (box[2] - box[0]) / len(lags)
    every = max(1, -int(-_ROW_LABEL_PX // height))
    for row, node in enumerate(nodes):
        is_explained = node == answer["explained"]["node"]
        if row % every == 0 or is_explained:
            middle = (box[0] - 8, box[1] + (row + 0.5) * height)
            canvas.text(middle, node[:10], _INK if is_explained else _SOFT, _font(12), "rm")
        if is_explained:
            frame = (box[0], box[1] + row * height - 1, box[2], box[1] + (row + 1) * height - 1)
            canvas.rectangle(frame, outline=_INK)
    every = max(1, -int(-_COLUMN_LABEL_PX // width))
    for column, lag in enumerate(lags):
        if (len(lags) - 1 - column) % every == 0:
            middle = (box[0] + (column + 0.5) * width, box[3] + 5)
            canvas.text(middle, f"-{lag:g}" if lag else "now", _SOFT, _font(12), "ma")
    canvas.text(((box[0] + box[2]) / 2, box[3] + 21), "minutes before the last reading", _SOFT, _font(12), "ma")


def _pixels(picture: Image.Image, box: Box, shares: NDArray[np.float64], answer: dict[str, Any]) -> None:
    """For each pixel the mean effect of the patches that covered it."""
    down, across = answer["patch_px"]
    height, width = answer["top_px"][-1] + down, answer["left_px"][-1] + across
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for row, top in enumerate(answer["top_px"]):
        for column, left in enumerate(answer["left_px"]):
            total[top : top + down, left : left + across] += shares[row, column]
            count[top : top + down, left : left + across] += 1
    _paste(picture, Image.fromarray(colours(total / np.maximum(count, 1))), box)
    said = f"mean effect of the patches of {across} x {down} pixels over each"
    ImageDraw.Draw(picture).text(((box[0] + box[2]) / 2, box[3] + 6), said, _SOFT, _font(12), "ma")


def _sent(picture: Image.Image, box: Box, image: NDArray[np.float32]) -> None:
    """What was classified, small, below the list."""
    top = _TOP + 26 * 11 + 20
    height = min(box[3] - top, (WIDTH - MARGIN - _LIST_LEFT) * image.shape[1] / image.shape[2])
    canvas = ImageDraw.Draw(picture)
    canvas.text((_LIST_LEFT, top - 18), "what was sent", _INK, _font(14))
    pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
    sent = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
    _paste(picture, sent, (_LIST_LEFT, top + 4, _LIST_LEFT + height * image.shape[2] / image.shape[1], top + height))


def _paste(picture: Image.Image, image: Image.Image, box: Box) -> None:
    """Put an image of few pixels into a box, its pixels as squares."""
    size = (round(box[2] - box[0]), round(box[3] - box[1]))
    picture.paste(image.resize(size, Image.Resampling.NEAREST), (round(box[0]), round(box[1])))
    ImageDraw.Draw(picture).rectangle(box, outline=_GRID)


def _legend(canvas: ImageDraw.ImageDraw, box: Box, largest: float, units: str) -> None:
    """A bar of the colours with what they stand for."""
    top, left, right = box[3] + 46, _MAP_LEFT, _MAP_RIGHT
    # Along the bar an effect's root grows evenly, as its colour does.
    roots = np.linspace(-1, 1, right - left)
    for offset, colour in enumerate(colours(np.sign(roots) * roots**2)):
        canvas.line((left + offset, top, left + offset, top + 12), tuple(int(part) for part in colour))
    for share in _TICKS:
        place = left + (np.sign(share) * abs(share) ** 0.5 + 1) / 2 * (right - left - 1)
        canvas.line((place, top + 12, place, top + 16), _SOFT)
        text = f"{share * largest:+.3g}" if share else "0"
        canvas.text((place, top + 17), f"{text} {units}" if share == 1 else text, _SOFT, _font(12), "ma")


def _list(canvas: ImageDraw.ImageDraw, answer: dict[str, Any], is_image: bool) -> None:
    """The ten inputs that moved it most, each with a bar of its share."""
    canvas.text((_LIST_LEFT, _TOP - 2), "moved it most", _INK, _font(14))
    canvas.text((WIDTH - MARGIN, _TOP - 2), "effect", _SOFT, _font(12), "ra")
    largest = max((item["share"] for item in answer["most"]), default=1.0)
    for place, item in enumerate(answer["most"]):
        top = _TOP + 22 + 26 * place
        name = f"row {item['top_px']}, column {item['left_px']}" if is_image else _reading(item)
        canvas.text((_LIST_LEFT, top), name, _INK, _font(13))
        canvas.text((WIDTH - MARGIN, top), f"{item['effect']:+.3g}", _INK, _font(13), "ra")
        colour = colours(np.array(0.5 if item["effect"] > 0 else -0.5))
        width = (WIDTH - MARGIN - _LIST_LEFT) * item["share"] / largest
        canvas.rectangle((_LIST_LEFT, top + 17, _LIST_LEFT + width, top + 20), tuple(int(part) for part in colour))
    if not answer["most"]:
        canvas.text((_LIST_LEFT, _TOP + 24), "nothing did", _SOFT, _font(13))


def _reading(item: dict[str, Any]) -> str:
    age = f"{item['lag_min']:g} min before" if item["lag_min"] else "now"
    return f"{item['node'][:14]}, {age}"


@cache
def _font(size: int) -> Any:
    """The one font that Pillow carries: basic Latin only, a box for any other letter."""
    return ImageFont.load_default(size)
