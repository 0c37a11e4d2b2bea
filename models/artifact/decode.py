"""Decodes a request body as people send it, by the contract: JSON, a picture, a table.

Each decoder is imported when the first body of its kind comes: a process that is only asked in JSON loads neither
Pillow nor a Parquet reader.
"""

from models.artifact import wire
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest

# The last two are what `curl -d` says when nobody tells it otherwise, and no header at all.
JSON_TYPES = ("application/json", "application/x-www-form-urlencoded", "")
PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG"}
CSV_TYPES = ("text/csv", "application/csv")
PARQUET_TYPES = ("application/vnd.apache.parquet", "application/x-parquet", "application/parquet")
_NUM_SHOWN = 100  # characters of a stranger's header in a message


def content_types(manifest: Manifest) -> tuple[str, ...]:
    """The content types that a model of this task takes, the usual name of each."""
    others = ("image/png", "image/jpeg") if manifest.task == "classify" else (CSV_TYPES[0], PARQUET_TYPES[0])
    return (JSON_TYPES[0], *others)


def is_accepted(manifest: Manifest, content_type: str) -> bool:
    """Whether `decode` reads this content type for a model of this task, to be answered 415 where not."""
    kind = media_type(content_type)
    others = tuple(PICTURES) if manifest.task == "classify" else (*CSV_TYPES, *PARQUET_TYPES)
    return kind in JSON_TYPES or kind.endswith("+json") or kind in others


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case: `text/csv` of `Text/CSV; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def decode(manifest: Manifest, body: bytes, content_type: str) -> wire.Request:
    """The checked inputs of `body`; raises InputError, and nothing else whatever the bytes are.

    classify: JSON, or one PNG or JPEG of the contract's size. forecast: JSON, or a table in CSV or Parquet (see
    `decode_table`). The size of `body` is bounded by whoever read it.
    """
    kind = media_type(content_type)
    if not is_accepted(manifest, content_type):
        raise InputError("wrong content type", "content-type", " or ".join(content_types(manifest)), kind[:_NUM_SHOWN])
    if kind in PICTURES:
        from models.artifact.decode_image import decode_image

        return decode_image(manifest, body, PICTURES[kind])
    if kind in CSV_TYPES:
        from models.artifact.decode_table import decode_table, read_csv

        return decode_table(manifest, read_csv(manifest, body))
    if kind in PARQUET_TYPES:
        from models.artifact.decode_parquet import read_parquet
        from models.artifact.decode_table import decode_table

        return decode_table(manifest, read_parquet(manifest, body))
    return wire.parse_request(manifest, body)
