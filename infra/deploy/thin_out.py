"""Leaves the packages that a file names in this virtual environment; runs in a build.

Tests and type stubs go, and files that were installed by no package, and what builds or installs packages.
"""

import compileall
import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

UNUSED_SUFFIXES = (".pyi", ".pyx", ".pxd", ".h", ".hpp", ".a", ".c")
UNUSED_FOLDERS = (
    "tests", "test", "include", "numpy/f2py", "numpy/distutils", "onnxruntime/backend", "onnxruntime/datasets",
    "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/transformers",
)  # fmt: skip
UNUSED_LIBRARIES = ("libonnxruntime.so",)  # for programs in C: Python's module holds all of it once more


def main(keep: Path) -> None:
    """`keep` holds a normalised name and a version on each line; raises SystemExit for one that is not here."""
    wanted = dict(line.split("==") for line in keep.read_text(encoding="utf-8").split())
    site = Path(sysconfig.get_path("purelib"))
    installed = {normalised(one.metadata["Name"]): one for one in metadata.distributions(path=[str(site)])}
    for name, version in wanted.items():
        if name not in installed or installed[name].version.partition("+")[0] != version:
            raise SystemExit(
                f"{name}: expected version {version}, got {getattr(installed.get(name), 'version', 'none')}"
            )
    kept = {path for name in wanted for path in files(installed[name])}
    for path in sorted(site.rglob("*"), reverse=True):
        remove_unless(path, path in kept and is_used(path, site))
    for path in [*Path(sys.prefix).glob("*"), *(Path(sys.prefix) / "bin").glob("*")]:
        if path.name not in ("bin", "lib", "lib64", "pyvenv.cfg") and not path.name.startswith("python"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    compileall.compile_dir(site, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def normalised(name: str) -> str:
    """The name as package indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def files(distribution: metadata.Distribution) -> Iterator[Path]:
    """Absolute paths of what a package installed."""
    return (Path(str(file.locate())).resolve() for file in distribution.files or [])


def is_used(path: Path, site: Path) -> bool:
    """Whether serving can need this file."""
    inside = f"/{path.relative_to(site).as_posix()}"
    is_unused = path.suffix in UNUSED_SUFFIXES or path.name.startswith(UNUSED_LIBRARIES)
    return not is_unused and not any(f"/{folder}/" in inside for folder in UNUSED_FOLDERS)


def remove_unless(path: Path, is_kept: bool) -> None:
    """Remove a file that is not kept, and a folder that has become empty."""
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            path.rmdir()
    elif not is_kept:
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
