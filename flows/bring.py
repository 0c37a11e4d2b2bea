"""Reads and checks the data sets that users bring, and keeps them under HOME/data.

Once kept they are as good as the shipped ones.
"""

import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.options import UsageError
from flows.workshop import Workshop
from models import catalog
from models.catalog import UnknownNameError
from models.data.bring import Description, read_long, read_wide
from models.data.card import DatasetCard, PersonalColumn
from models.data.examples import RawExamples
from models.data.images import MIN_SIDE, read_image_folder
from models.data.parse import parse_cadence
from models.data.series import RawImages
from models.data.stored import Raw, load, load_card, store
from models.data.tabular import Rows, read_rows

Kind = Literal["wide", "long", "table", "images"]
OPTIONS: dict[str, tuple[Kind, ...]] = {  # which kinds have a use for what the user may say
    "cadence": ("wide", "long"), "unit": ("wide", "long", "table"), "start": ("wide",), "adjacency": ("wide", "long"),
    "missing": ("wide", "long", "table"), "time": ("long", "table"), "node": ("long",), "values": ("long",),
    "personal": ("long",), "target": ("table",), "features": ("table",), "group": ("table",), "size": ("images",),
}  # fmt: skip
WORDS = {"values": "value"}  # where the option is called otherwise


@dataclass(frozen=True)
class Source:
    """What the user said about the files."""

    kind: Kind
    path: Path
    cadence: str = ""
    unit: str = ""
    start: str = ""
    missing: float | None = None
    adjacency: Path | None = None
    time: str = "time"
    node: str = "node"
    values: tuple[str, ...] = ("value",)
    personal: tuple[str, ...] = ()
    target: str = ""
    features: tuple[str, ...] = ()
    group: str = ""
    size: str = ""


def added_folder(shop: Workshop, name: str) -> Path:
    """Where an added data set lies."""
    return shop.home / "data" / name


def added_cards(shop: Workshop) -> dict[str, DatasetCard]:
    """The cards of every added data set, by name."""
    folders = sorted(path for path in (shop.home / "data").glob("[a-z0-9_]*") if path.is_dir())
    return {path.name: load_card(path) for path in folders}


def read_added(folder: Path) -> Raw:
    """The raw data of an added data set."""
    return load(folder)[0]


def add_dataset(shop: Workshop, name: str, source: Source) -> dict[str, Any]:
    """Read and check the files and keep them. Raises UsageError for a bad name, BadDataError with every finding."""
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,62}", name):
        raise UsageError(f"data set name '{name}': expected a-z, 0-9, _ and - (not first), at most 63 characters")
    if name in catalog.datasets():
        raise UsageError(f"data set '{name}' is shipped with Roadworthy; choose another name")
    for path in (source.path, source.adjacency):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: expected a file or folder, there is none")
    _refuse_idle(source)
    raw, card = _read(name, source, shop.masking_key)
    keep(shop, raw, card)
    warnings = [asdict(finding) for finding in raw.findings if finding.severity == "warning"]
    return {"name": name, "card": card.model_dump(mode="json"), "summary": _summary(card, raw), "warnings": warnings}


def keep(shop: Workshop, raw: Raw, card: DatasetCard) -> Path:
    """Store the raw data under its card's name, replacing what has it, all at once."""
    target = added_folder(shop, card.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=target.parent) as scratch:
        store(Path(scratch) / "new", raw, card)
        if target.exists():
            target.rename(Path(scratch) / "old")
        (Path(scratch) / "new").rename(target)
    return target


def remove_dataset(shop: Workshop, name: str) -> None:
    """Forget an added data set; raises UnknownNameError."""
    known = added_cards(shop)
    if name not in known:
        raise UnknownNameError("added data set", name, known)
    shutil.rmtree(added_folder(shop, name))


def _refuse_idle(source: Source) -> None:
    """A wish that this kind of file has no use for is refused, not passed over."""
    default = Source(source.kind, source.path)
    for option, kinds in OPTIONS.items():
        if source.kind not in kinds and getattr(source, option) != getattr(default, option):
            raise UsageError(
                f"--{WORDS.get(option, option)} is for {', '.join(f'--{k}' for k in kinds)}, got --{source.kind}"
            )


def _read(name: str, source: Source, masking_key: bytes) -> tuple[Raw, DatasetCard]:
    if source.kind == "images":
        return read_image_folder(source.path, name, size=_pixels(source.size))
    if source.kind == "table":
        if not source.target:
            raise UsageError("--table: expected --target COLUMN, the one to predict, got none")
        return read_rows(source.path, Rows(name, source.target, source.features, source.unit, source.time, source.group,
                                           source.missing))  # fmt: skip
    about = Description(
        name=name,
        cadence_min=_minutes(source.cadence),
        missing_value=source.missing,
        personal=tuple(_personal(word) for word in source.personal),
        masking_key=masking_key,
    )
    if source.kind == "wide":
        return read_wide(source.path, about, source.unit, source.start, source.adjacency)
    units = tuple(part.strip() for part in source.unit.split(",")) if source.unit else ()
    return read_long(source.path, about, source.time, source.node, source.values, units, source.adjacency)


def _minutes(cadence: str) -> float | None:
    try:
        return parse_cadence(cadence) if cadence else None
    except ValueError as error:
        raise UsageError(str(error)) from error


def _pixels(size: str) -> tuple[int, int] | None:
    """Height and width of "WIDTHxHEIGHT"."""
    if not size:
        return None
    match = re.fullmatch(r"(\d{1,4})[xX×](\d{1,4})", size)
    if match is None or min(int(match[1]), int(match[2])) < MIN_SIDE:
        raise UsageError(f"--size {size}: expected WIDTHxHEIGHT in pixels of at least {MIN_SIDE}, such as 32x32")
    return int(match[2]), int(match[1])


def _personal(word: str) -> PersonalColumn:
    name, _, how = word.partition("=")
    if how not in ("", "pseudonym", "coarsen", "drop"):
        raise UsageError(f"--personal {word}: expected COLUMN=pseudonym, COLUMN=coarsen or COLUMN=drop")
    return PersonalColumn.model_validate({"name": name, "how": how or "pseudonym"})


def _summary(card: DatasetCard, raw: Raw) -> str:
    if isinstance(raw, RawExamples):
        return f"{card.title}; {card.span}"
    if isinstance(raw, RawImages):
        return f"{len(raw.labels)} images of {len(raw.classes)} classes"
    share = card.missing_share or 0.0
    return f"{card.num_nodes} sensors, {card.span}, {share:.2%} missing"
