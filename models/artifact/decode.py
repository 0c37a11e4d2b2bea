"""Decodes a request body as people send it, by the contract: JSON, a picture, a table.

Each decoder is imported when the first body of its kind comes: a process that is only asked in JSON loads neither
Pillow nor a Parquet reader.
"""

from typing import TYPE_CHECKING

from models.artifact import wire
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest

if TYPE_CHECKING:
    from models.artifact.decode_table import Table

# The last two are what `curl -d` says when nobody tells it otherwise, and no header at all.
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")
PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG"}
CSV_TYPES = ("text/csv", "application/csv")
PARQUET_TYPES = ("application/vnd.apache.parquet", "application/x-parquet", "application/parquet")
_NUM_SHOWN = 100  # characters of a stranger's header in a message


def content_types(manifest: Manifest) -> tuple[str, ...]:
    """The content types that a model of this task takes, the usual name of each."""
    if manifest.task == "classify":
        return (JSON_TYPES[0], "image/png", "image/jpeg")
    return (JSON_TYPES[0], CSV_TYPES[0], PARQUET_TYPES[0]) if takes_tables(manifest) else (JSON_TYPES[0],)


def takes_tables(manifest: Manifest) -> bool:
    """Windows, and samples that are one row of a table: every input a list of entries that have names of their own."""
    if not manifest.inputs:
        return manifest.task == "forecast"
    labels = [label for spec in manifest.inputs for label in spec.labels]
    return len(set(labels)) == len(labels) and all(spec.labels and len(spec.shape) == 1 for spec in manifest.inputs)


def is_accepted(manifest: Manifest, content_type: str) -> bool:
    """Whether `decode` reads this content type for a model of this task, to be answered 415 where not."""
    kind = media_type(content_type)
    if kind in JSON_TYPES or kind.endswith("+json"):
        return True
    if manifest.task == "classify":
        return kind in PICTURES
    return kind in (*CSV_TYPES, *PARQUET_TYPES) and takes_tables(manifest)


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case: `text/csv` of `Text/CSV; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def decode(manifest: Manifest, body: bytes, content_type: str) -> wire.Request:
    """The checked inputs of `body`; raises InputError, and nothing else whatever the bytes are.

    classify: JSON, or one PNG or JPEG of the contract's size. forecast: JSON, or a table in CSV or Parquet (see
    `decode_table`). Tasks whose sample is one row of a table, as regress: JSON, or such a table (`decode_samples`); the
    other ones: JSON. The size of `body` is bounded by whoever read it.
    """
    kind = media_type(content_type)
    if not is_accepted(manifest, content_type):
        raise InputError("wrong content type", "content-type", " or ".join(content_types(manifest)), kind[:_NUM_SHOWN])
    if kind in PICTURES:
        from models.artifact.decode_image import decode_image

        return decode_image(manifest, body, PICTURES[kind])
    if kind in CSV_TYPES:
        from models.artifact.decode_table import read_csv

        return _of_table(manifest, read_csv(manifest, body))
    if kind in PARQUET_TYPES:
        from models.artifact.decode_parquet import read_parquet

        return _of_table(manifest, read_parquet(manifest, body))
    return wire.parse_request(manifest, body)


def _of_table(manifest: Manifest, table: "Table") -> wire.Request:
    from models.artifact.decode_samples import decode_samples
    from models.artifact.decode_table import decode_table

    return decode_samples(manifest, table) if manifest.inputs else decode_table(manifest, table)
