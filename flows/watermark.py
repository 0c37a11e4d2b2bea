"""Marks exported graphs with their owner, and looks for the mark in a parcel.

The key is of this home, HOME/keys/watermark.key: made once, before there is anything to find, which is what makes a
p-value mean something. The owner is any text; its 32 bits are the first of its SHA-256.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.trust import named_parcel
from flows.workshop import Workshop
from infra.keys import key_from_file
from models.artifact.manifest import MODEL_FILE
from models.artifact.sealed import read_parcel
from models.compression.watermark import WatermarkError, check, embed


def owner_bits(owner: str) -> int:
    """32 bits of an owner's name, or of whom a copy was given to."""
    return int.from_bytes(sha256(owner.encode()).digest()[:4], "big")


def mark(shop: Workshop, model: Path, owner: str) -> bool:
    """Mark the float graph in the file `model`, in place; False where it has too few weights to carry a mark."""
    try:
        marked = embed(model.read_bytes(), _key(shop), owner_bits(owner))
    except WatermarkError:
        return False
    model.write_bytes(marked)
    return True


def look(shop: Workshop, name: str, owner: str = "", seal_key: bytes | None = None) -> dict[str, Any]:
    """What the key of this home finds in a live product, a parcel's folder or an ONNX file.

    Raises UsageError, ParcelError, and WatermarkError for a graph with too few weights.
    """
    found = check(_model(shop, name, seal_key), _key(shop))
    return {
        "name": name,
        "marked": found.is_marked,
        "agreeing": found.num_agreeing,
        "pilots": found.num_pilots,
        "p_value": found.p_value,
        "bits": f"{found.bits:08x}",
        "owner": owner,
        "owner_agrees": found.is_marked and found.bits == owner_bits(owner) if owner else None,
    }


def _model(shop: Workshop, name: str, seal_key: bytes | None) -> bytes:
    if Path(name).is_file():
        return Path(name).read_bytes()
    folder, _ = named_parcel(shop, name)
    return read_parcel(folder, seal_key)[1][MODEL_FILE]


def _key(shop: Workshop) -> bytes:
    return key_from_file(shop.home / "keys" / "watermark.key")
