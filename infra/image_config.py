"""Makes an image depend on its content alone: takes chance out of its configuration.

A build writes the random name of its last container and the ids of its intermediate images into the configuration, and
with them into the digest. (In OCI's format it does not, but that has no HEALTHCHECK.)
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from infra.containers import Engine, image_id

BY_CHANCE = ("container", "parent", "id")


def settle(engine: Engine, image: str, scratch: Path) -> str:
    """Replace `image` by the same one with a reproducible digest; returns its id. Raises EngineError."""
    if engine.name != "podman":
        return image_id(engine, image)
    built = image_id(engine, image)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-", dir=scratch) as name:
        folder = Path(name) / "image"
        engine.ask("save", "--quiet", "--format=docker-dir", f"--output={folder}", image, timeout_s=300)
        _rewrite(folder)
        settled = engine.ask("pull", "--quiet", f"dir:{folder}", timeout_s=300).splitlines()[-1]
        engine.ask("tag", settled, image)
    if built.removeprefix("sha256:") != settled:
        engine.ask("rmi", "--no-prune", built)
    return image_id(engine, image)


def _rewrite(folder: Path) -> None:
    """The manifest and the configuration of an image in a folder, as `docker-dir` lays it out."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    old = folder / manifest["config"]["digest"].removeprefix("sha256:")
    text = json.dumps(_settled(json.loads(old.read_bytes())), sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    old.unlink()
    (folder / digest).write_bytes(text)
    manifest["config"].update(digest=f"sha256:{digest}", size=len(text))
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")


def _settled(config: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in BY_CHANCE}
    for name in ("config", "container_config"):
        if name in kept:
            kept[name] = {**kept[name], "Hostname": "", "Image": ""}
    kept["history"] = [{name: value for name, value in one.items() if name != "comment"} for one in config["history"]]
    return kept
