"""What is wrong with data, as records: row, column, expected, got, how often."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

MAX_EXAMPLES = 10  # of one kind; the rest is one more finding with their number
Severity = Literal["error", "warning"]
RowName = Callable[[int], str]  # of a position in the table


@dataclass(frozen=True)
class Finding:
    """One kind of trouble at one place; `count` places have it. An error refuses the data, a warning is reported."""

    row: str
    column: str
    expected: str
    got: str
    count: int = 1
    severity: Severity = "error"


class BadDataError(ValueError):
    """Data that breaks its contract; `findings` say where, `str()` is a plain table of them."""

    def __init__(self, findings: Iterable[Finding], what: str = "data") -> None:
        self.findings = tuple(findings)
        num_errors = sum(finding.severity == "error" for finding in self.findings)
        super().__init__(f"{what} refused: {num_errors} finding{'s' * (num_errors != 1)}\n{table(self.findings)}")


def found_at(
    places: Iterable[tuple[str, str, str]], num_places: int, expected: str, severity: Severity = "error"
) -> list[Finding]:
    """Findings of one kind at (row, column, got) places, of which the first few are shown and the rest counted."""
    shown = [Finding(row, column, expected, got, 1, severity) for row, column, got in islice(places, MAX_EXAMPLES)]
    num_more = num_places - len(shown)
    return [*shown, Finding("more", shown[0].column, expected, "…", num_more, severity)] if num_more > 0 else shown


def capped(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of which each kind (what is expected) keeps its first few and the number of the rest."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.expected, finding.severity), []).append(finding)
    kept: list[Finding] = []
    for same in kinds.values():
        shown, rest = same[:MAX_EXAMPLES], same[MAX_EXAMPLES:]
        more = replace(same[0], row="more", got="…", count=sum(finding.count for finding in rest))
        kept += [*shown, more] if rest else shown
    return kept


def refuse(findings: Sequence[Finding], what: str = "data") -> None:
    """Raise BadDataError if any finding is an error."""
    if any(finding.severity == "error" for finding in findings):
        raise BadDataError(findings, what)


def table(findings: Sequence[Finding]) -> str:
    """A readable plain table: one line for each finding, errors first, columns aligned."""
    head = ("", "row", "column", "expected", "got", "count")
    ordered = sorted(findings, key=lambda finding: finding.severity)
    lines = [head, *((f.severity, f.row, f.column, f.expected, f.got, str(f.count)) for f in ordered)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
