"""`roadworthy status --watch`: how a home stands, drawn every two seconds until Ctrl-C.

What is wrong is said first. Each part comes from `flows.facts`; one that cannot be read is named with its reason, and
the others stay.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows import console
from flows.facts import Facts
from flows.workshop import Workshop, now

EVERY_S = 2.0
WELL = ("RUNNING",)
NUMBERS = ("requests", "errors", "p50 ms", "p99 ms")
COLOURS = {
    "critical": "bold red",
    "warning": "yellow",
    "Late": "red",
    "Crashed": "red",
    "retraining needed": "yellow",
}


def watch(shop: Workshop, every_s: float = EVERY_S, num_looks: int | None = None, to: Console = console.out) -> None:
    """Draw the home until Ctrl-C, or `num_looks` times; where nobody looks at a terminal, one block after another."""
    facts = Facts(shop)
    looks = 0
    try:
        with Live(console=to, auto_refresh=False, screen=to.is_terminal) as live:
            while num_looks is None or looks < num_looks:
                drawn = render(snapshot(facts), now())
                live.update(drawn, refresh=True) if to.is_terminal else to.print(drawn)
                looks += 1
                if looks != num_looks:
                    time.sleep(every_s)
    except KeyboardInterrupt:
        return


def snapshot(facts: Facts) -> dict[str, Any]:
    """Everything that is drawn, as JSON would have it."""
    more = {"alerts": facts.alerts(), "traffic": facts.traffic(), "current_runs": facts.current_runs()}
    return {**facts.read(), **more}


def render(record: Mapping[str, Any], at: datetime) -> RenderableType:
    """The picture of one snapshot, taken at `at`."""
    parts: list[RenderableType] = [Text(f"{at:%Y-%m-%d %H:%M:%S} UTC", style="dim"), *_wrong(record, at)]
    parts += _table("Services", ("name", "state", "address", "since"), _programs(record["programs"] or [], at))
    if live := _live(record, at):
        heads = ("product", "version", "since", "requests", "errors", "p50 ms", "p99 ms")
        parts += _table("On the road", heads, live)
    if record["runs"] is not None:
        parts += _table(_counted(record["runs"]), ("deployment", "run", "state", "since"), _runs(record, at))
    parts += _table("Kept well", ("what", "how it went", "when"), _kept(record, at))
    return Group(*parts)


def _counted(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} {state.replace('_24h', ' in 24 h')}" for state, count in counts.items() if count)
    return f"Runs: {told or 'none'}"


def _runs(record: Mapping[str, Any], at: datetime) -> list[tuple[Any, ...]]:
    return [
        (one["deployment"], one["name"], _coloured(one["state"]), _ago(one["since"], at))
        for one in record["current_runs"]
    ]


def _wrong(record: Mapping[str, Any], at: datetime) -> list[RenderableType]:
    alerts = [
        Text(f"{one['severity']}: {one['summary']} (since {_ago(one['since'], at)})", COLOURS.get(one["severity"], ""))
        for one in record["alerts"]
    ]
    return [
        *alerts,
        *(Text(f"{part} cannot be read: {why}", style="yellow") for part, why in record["missing"].items()),
    ]


def _programs(programs: Sequence[Mapping[str, Any]], at: datetime) -> list[tuple[Any, ...]]:
    return [
        (one["name"], Text(one["state"], style="green" if one["state"] in WELL else "bold red"), one["url"],
         _ago(one["since"], at))
        for one in programs
    ]  # fmt: skip


def _live(record: Mapping[str, Any], at: datetime) -> list[tuple[Any, ...]]:
    """The live version of each product, and whatever else its router sends requests to."""
    rows: list[tuple[Any, ...]] = []
    for one in record["live"] or []:
        groups = [group for group in record["traffic"] if group["product"] == one["product"]]
        own = next((group for group in groups if group["group"] == f"v{one['version']}"), None)
        rows.append((one["product"], str(one["version"]), _ago(one["since"], at), *_tally(own)))
        rows += [("", f"{group['group']} ({group['weight']:g} %)", "", *_tally(group))
                 for group in groups if group is not own and group["weight"]]  # fmt: skip
    return rows


def _tally(group: Mapping[str, Any] | None) -> tuple[str, ...]:
    if group is None:
        return ("–",) * 4
    return (f"{group['requests']:,}", f"{group['errors']:,}", f"{group['p50_ms']:.1f}", f"{group['p99_ms']:.1f}")


def _kept(record: Mapping[str, Any], at: datetime) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name in ("backup", "drill"):
        last = (record["operations"] or {}).get(name)
        went = (
            Text("never", style="yellow")
            if last is None
            else Text("well" if last["ok"] else f"failed: {last['error']}")
        )
        rows.append((name, went, _ago(last and last["time"], at)))
    for look in record["monitoring"] or []:
        found = _coloured(look["verdict"])
        found.append("; retraining asked for" if look["alarm"] else "")
        rows.append((f"monitoring {look['product']}", found, _ago(look["time"], at)))
    ledger = record["ledger"]
    if ledger is not None:
        rows.append(("ledger", f"chain holds, {ledger['entries']:,} entries", _ago(ledger["last"], at)))
    if disk := record["disk"]:
        rows.append(("disk", f"{disk['free'] / disk['size']:.0%} free", ""))
    return rows


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[RenderableType]:
    head = Text(f"\n{title}", style="bold")
    if not rows:
        return [head]
    view = Table(header_style="dim", box=None, pad_edge=False)
    for name in columns:
        view.add_column(name, overflow="fold", justify="right" if name in NUMBERS else "left")
    for row in rows:
        view.add_row(*row)
    return [head, view]


def _coloured(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))


def _ago(time_text: str | datetime | None, at: datetime) -> str:
    """How long ago, in one unit."""
    if not time_text:
        return "–"
    then = time_text if isinstance(time_text, datetime) else datetime.fromisoformat(time_text)
    seconds = (at - then).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
