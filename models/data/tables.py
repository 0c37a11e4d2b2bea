"""CSV, gzipped CSV and Parquet as they are: a cell stays text until it has been looked at."""

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.data.findings import BadDataError, Finding, found_at

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"


@dataclass(frozen=True)
class Table:
    """The columns "0", "1", … of a file, their names where it has some, and the line of the first row."""

    frame: pl.DataFrame
    names: tuple[str, ...] = ()
    first_line: int = 1

    @property
    def has_names(self) -> bool:
        return bool(self.names)

    def line(self, i: int) -> str:
        """What findings call row i."""
        return f"line {i + self.first_line}"

    def below_header(self) -> "Table":
        """The first row taken as the names."""
        return Table(self.frame[1:], tuple((cell or "").strip() for cell in self.frame.row(0)), 2)


def read_table(path: Path, *, has_header: bool = True) -> Table:
    """Read a .csv, .csv.gz or .parquet file, known by its first bytes; raises BadDataError.

    Without `has_header` the first line of a CSV is a row like any other.
    """
    if not path.is_file():
        raise BadDataError([Finding("all", "all", "a file", f"nothing at {path}")], path.name)
    content = path.read_bytes()
    if content.startswith(PARQUET):
        return _parquet(path)
    lines = _lines(_unzipped(content, path), path)
    table = Table(_cells(lines, max(",;\t", key=lines[0].count), path))
    if not has_header:
        return table
    if len(lines) < 2:
        raise BadDataError([Finding("all", "all", "rows below the header", "none")], path.name)
    return table.below_header()


def _parquet(path: Path) -> Table:
    # The one way to learn whether a Parquet file is whole is to read it, so polars' error becomes a finding here.
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadDataError([Finding("all", "all", "a whole Parquet file", str(error)[:120])], path.name) from error
    if frame.is_empty():
        raise BadDataError([Finding("all", "all", "rows", "none")], path.name)
    nested = [
        Finding("all", name, "a flat column", str(kind)) for name, kind in frame.schema.items() if kind.is_nested()
    ]
    if nested:
        raise BadDataError(nested, path.name)
    frame = frame.select(pl.selectors.temporal(), ~pl.selectors.temporal())  # pandas writes its index last
    names = tuple(frame.columns)
    return Table(frame.rename({name: str(i) for i, name in enumerate(names)}), names)


def _unzipped(content: bytes, path: Path) -> bytes:
    if not content.startswith(GZIP):
        return content
    decompressor = zlib.decompressobj(wbits=31)
    # zlib says only by raising that bytes are damaged; a file cut short is seen by `eof`.
    try:
        text = decompressor.decompress(content)
    except zlib.error as error:
        raise BadDataError([Finding("all", "all", "a whole gzip file", str(error))], path.name) from error
    if not decompressor.eof:
        raise BadDataError(
            [Finding("all", "all", "a whole gzip file", f"cut short after {len(text)} bytes")], path.name
        )
    return text


def _lines(content: bytes, path: Path) -> list[str]:
    """The lines of a text file; refuses one that is empty, is not UTF-8, or has an open quotation mark in a line."""
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").rstrip("\n \t\r")
    lines = text.split("\n")
    if not text:
        raise BadDataError([Finding("all", "all", "a table", "an empty file")], path.name)
    if "\ufffd" in text or "\0" in text:
        bad = [i for i, line in enumerate(lines) if "\ufffd" in line or "\0" in line]
        places = ((f"line {i + 1}", "all", repr(lines[i][:20])) for i in bad)
        raise BadDataError(found_at(places, len(bad), "text in UTF-8"), path.name)
    if '"' in text:
        odd = [i for i, line in enumerate(lines) if line.count('"') % 2]
        if odd:
            places = ((f"line {i + 1}", "all", repr(lines[i][:20])) for i in odd)
            raise BadDataError(found_at(places, len(odd), "quotation marks that close"), path.name)
    return lines


def _cells(lines: list[str], separator: str, path: Path) -> pl.DataFrame:
    """All cells as text (null where empty), columns "0", "1", …; refuses rows not as long as the first."""
    is_quoted = any('"' in line for line in lines)
    if is_quoted:
        rows = list(csv.reader(lines, delimiter=separator))
        widths = pl.Series([len(row) for row in rows])
    else:
        widths = pl.Series(lines).str.count_matches(separator, literal=True) + 1
    width = int(widths[0])
    ragged = (widths != width).arg_true()
    if len(ragged):
        places = ((f"line {i + 1}", "all", f"{widths[i]} cells") for i in ragged)
        raise BadDataError(found_at(places, len(ragged), f"{width} cells, as in line 1"), path.name)
    names = [str(i) for i in range(width)]
    if is_quoted:
        return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    if width == 1:
        return pl.DataFrame({"0": lines})
    text = "\n".join(lines).encode()
    return pl.read_csv(
        text,
        has_header=False,
        new_columns=names,
        separator=separator,
        quote_char=None,
        infer_schema=False,
        eol_char="\n",
    )
