"""Builds the one image of the platform, of which every server and worker is a command.

`python -m infra.platform_image` stages a context (the code, a wheel of torch where pip knows a local
one, Prometheus) and lets podman or docker build `deploy/Containerfile.platform`. Where no image
registry is in reach the base image is made of Debian's packages, and the installer is handed in.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra.base_image import DEFAULT, base_image
from infra.build_tools import build_volumes
from infra.containers import Engine, finish
from infra.prometheus import find_program
from infra.settings import Settings, settings

SOURCE = Path(__file__).parents[1]
CONTAINERFILE = SOURCE / "infra" / "deploy" / "Containerfile.platform"
TAG = "localhost/roadworthy-platform:latest"
CODE = ("flows", "models", "services", "infra", "mlflow", "prefect.yaml", "pyproject.toml", "README.md")
TO_INSTALL = ("pyproject.toml", "requirements.lock", "infra/deploy/venv.sh")
TOOLS = ("prometheus", "promtool")
BUILD_S = 1800.0
Say = Callable[[str], None]


def build_platform(config: Settings, tag: str, base: str, say: Say) -> str:
    """Build the image `tag` on the image `base`, in HOME's store of images; returns its id.

    Raises EngineError, PrometheusError.
    """
    engine, cache = Engine.find(config.folder), config.folder / "cache" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    stands_on = base_image(engine, base, cache, say)
    options = [f"--build-arg=BASE_IMAGE={stands_on}"]
    prefix = engine.prefix()
    if engine.name == "podman":
        prefix = engine.prefix(build_volumes(cache / "build"))
        options += ["--format=docker", "--network=host", "--layers"]
    with tempfile.TemporaryDirectory(prefix="platform-", dir=cache) as folder:
        context = stage(Path(folder) / "context", config)
        file = f"--file={context / CONTAINERFILE.name}"
        finish([*prefix, engine.executable, "build", *options, f"--tag={tag}", file, str(context)], BUILD_S)
    return str(engine.inspect(tag, "image")["Id"])


def stage(folder: Path, config: Settings) -> Path:
    """Put what the build needs into the new `folder`: what to install apart from the code, which changes more often.

    Raises PrometheusError where there is none and none can be fetched.
    """
    for name in ("wheels", "tools", "pages", "code"):
        (folder / name).mkdir(parents=True)
    shutil.copy(CONTAINERFILE, folder)
    for name in TO_INSTALL:
        _copied(SOURCE / name, folder / name)
    (folder / "README.md").touch()  # the installer asks for one; ours comes with the code, and changes like it
    for wheel in _wheels():
        _copied(wheel, folder / "wheels" / wheel.name)
    for tool in TOOLS:
        found = find_program(config, tool)
        _copied(found, folder / "tools" / tool)
        if (pages := found.parents[1] / "share" / "prometheus").is_dir():  # Debian's build reads them from /usr/share
            shutil.copytree(pages, folder / "pages", dirs_exist_ok=True, ignore_dangling_symlinks=True)
    for name in CODE:
        _code(SOURCE / name, folder / "code" / name)
    return folder


def _code(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        _copied(source, target)


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy(source, target)


def _wheels() -> list[Path]:
    """torch, from where pip finds local wheels; none: it comes from PyTorch's index of CPU builds."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", ":env:.find-links"], capture_output=True, text=True
    )
    folders = [Path(word) for word in asked.stdout.split() if Path(word).is_dir()]
    return [wheel for folder in folders for wheel in folder.glob("torch-*cp311*.whl")]


def main(words: list[str]) -> None:
    """Build it; prints the name and the id."""
    parser = argparse.ArgumentParser(prog="python -m infra.platform_image", description=__doc__)
    parser.add_argument("--tag", default=TAG, help="name:tag of the image")
    parser.add_argument("--base", default=DEFAULT, help="a Python 3.11 image; the default is made if out of reach")
    given = parser.parse_args(words)
    made = build_platform(settings(), given.tag, given.base, lambda line: print(line, file=sys.stderr))  # noqa: T201
    print(f"{given.tag} {made}")  # noqa: T201 - the answer of this command


if __name__ == "__main__":
    main(sys.argv[1:])
