"""The page at `/`: which model answers here, and a form to try it.

One document that loads nothing: style and script stand in it and are named in the Content-Security-Policy by their
hash, so a name or a reason that somebody smuggled in is text and nothing else. Its parts are files beside this one, so
that they can be read as what they are.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from models.artifact.checks import sizes
from models.artifact.decode import content_types
from models.artifact.manifest import Manifest
from services.schemas import Release

_FOLDER = Path(__file__).resolve().parent
PARTS = ("page.html", "page.css", "page.js")


@cache
def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy: only this style and this script, and requests to this service alone."""
    style, script = (_hash(_part(name)) for name in PARTS[1:])
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def headers() -> list[tuple[bytes, bytes]]:
    """What the page is answered with, besides its type."""
    return [
        (b"content-security-policy", f"{policy()}; frame-ancestors 'none'".encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]


def render(
    manifest: Manifest | None,
    release: Release | None,
    example: Any = None,
    models: Mapping[str, Sequence[str]] | None = None,
    reason: str = "",
) -> bytes:
    """The page as HTML in UTF-8; without a model it says why in the words of `reason`.

    example: the golden request; models: every served model with its versions, the default one included.
    """
    if manifest is None or release is None:
        facts, title, data = {"not ready": reason}, "Roadworthy", _nothing(reason)
    else:
        facts, title = _facts(manifest, release), f"{release.product}/{release.version}"
        known = models or {release.product: [str(release.version)]}
        data = _data(manifest, release, example, known)
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    parts = {
        "policy": html.escape(policy()),
        "title": html.escape(title),
        "facts": rows,
        # What ends a script element, or opens a comment in it, must not stand in one.
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "style": _part("page.css"),
        "script": _part("page.js"),
    }
    text = _part("page.html")
    pieces = text.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled).encode()


def _facts(manifest: Manifest, release: Release) -> dict[str, str]:
    facts = {"task": manifest.task, "model": f"{manifest.family} ({manifest.variant})"}
    return facts | {name.replace("_", " "): text for name, text in release.labels().items() if text}


def _data(manifest: Manifest, release: Release, example: Any, models: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the script needs to know."""
    steps = range(1, manifest.horizon_steps + 1)
    return {
        "model": release.product,
        "version": str(release.version),
        "models": {name: [str(version) for version in versions] for name, versions in models.items()},
        "task": manifest.task,
        "about": _about(manifest),
        "types": content_types(manifest),
        "example": example,
        "nodes": manifest.nodes,
        "classes": manifest.classes,
        "labels": manifest.output.labels if manifest.output else (),
        "num_axes": 0 if manifest.output is None or manifest.task == "control" else len(manifest.output.shape),
        "cadence_min": manifest.cadence_min,
        "horizon_min": [manifest.cadence_min * step for step in steps],
        "judged_step": manifest.judged_step or 1,
    }


def _about(manifest: Manifest) -> str:
    """What this model is for, in a sentence."""
    if manifest.task == "forecast":
        horizon_min = manifest.cadence_min * manifest.horizon_steps
        return (
            f"Forecasts {manifest.channels[0]} ({manifest.units[0]}) at {len(manifest.nodes)} nodes, up to "
            f"{horizon_min:g} minutes ahead, from the last {manifest.past_steps} steps."
        )
    if manifest.task == "classify":
        _, height, width = manifest.image_shape or (0, 0, 0)
        return f"Tells {len(manifest.classes)} classes apart in pictures of {width} × {height} pixels."
    assert manifest.output is not None
    output, inputs = manifest.output, ", ".join(spec.name for spec in manifest.inputs)
    if manifest.task == "control":
        return f"Control: chooses one of {len(output.labels)} for {output.name}, from {inputs}."
    what = (
        f"{output.name}{sizes(output.shape)} ({output.unit})" if output.unit else f"{output.name}{sizes(output.shape)}"
    )
    return f"{manifest.task.capitalize()}: gives {what} from {inputs}."


def _nothing(reason: str) -> dict[str, Any]:
    empty: dict[str, Any] = {name: [] for name in ("types", "nodes", "classes", "labels", "horizon_min")}
    return {**empty, "model": "", "version": "", "models": {}, "task": "", "about": f"Not ready: {reason}"}


def _hash(text: str) -> str:
    """A source expression of the policy for an element with this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
