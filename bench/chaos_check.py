"""Looks for everything that was acknowledged, and for what was done twice or never ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

from bench import chaos_drivers, chaos_flow
from bench.chaos_asker import Answer
from bench.chaos_drivers import DRIVERS, LIVE
from bench.chaos_home import Home
from bench.chaos_journal import acknowledged
from flows.capture import spools
from flows.steps import key_of
from infra.captures import CAPTURES, spooled
from infra.ledger import Entry
from infra.promotion import PROMOTE, REGISTER
from infra.tracking import KEY

UNSYNCED_S = 0.5  # services/README.md: kill -9 loses at most the last half second of captures


@dataclass
class Findings:
    """What was looked for and what of it is not there, done twice, or not at an end."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Errand:
    """A flow run that the server took on."""

    number: int
    run_id: str


@dataclass
class Checker:
    """Knows what it has read of the store already: captured objects never change."""

    home: Home
    _keys: set[str] = field(default_factory=set)
    _captured: set[str] = field(default_factory=set)

    def look(self, since: float, answers: Sequence[Answer], errands: Iterable[Errand]) -> Findings:
        """Everything acknowledged since a monotonic moment. Raises what the platform raises while it is not well."""
        found = Findings()
        lines = [line for name in DRIVERS for line in acknowledged(self.home.journal(name), since)]
        self.home.shop.ledger.verify()
        entries = self.home.shop.ledger.entries()
        _ledger(found, lines, entries)
        self._versions(found, lines)
        self._runs(found, lines)
        self._captures(found, answers)
        for errand in errands:
            self._errand(found, errand, entries)
        return found

    def _versions(self, found: Findings, lines: Sequence[dict[str, Any]]) -> None:
        from infra import aliases

        versions = [line for line in lines if line["kind"] == "version"]
        pages = {name: aliases.look(self.home.shop.registry.client, name) for name in {v["product"] for v in versions}}
        for line in versions:
            page = pages[line["product"]].versions.get(line["version"])
            if page is None or page.tags.get("roadworthy.evidence") != line["evidence"]:
                found.lost.append(f"version {line['product']}/{line['version']}: not in the registry as acknowledged")

    def _runs(self, found: Findings, lines: Sequence[dict[str, Any]]) -> None:
        client = self.home.shop.tracking.client
        ids = {line["run"]: line for line in lines if "run" in line}
        for run_id, line in ids.items():
            run = client.get_run(run_id)
            if run.data.tags.get(KEY) != f"chaos{line['number']}":
                found.lost.append(f"run {run_id}: expected key chaos{line['number']}, got {run.data.tags.get(KEY)}")
            ended = any(one["kind"] == "finished" and one["run"] == run_id for one in lines)
            if ended and run.info.status != "FINISHED":
                found.lost.append(f"run {run_id}: its end was acknowledged, it is {run.info.status}")
            points = {(one.step, one.value) for one in client.get_metric_history(run_id, "value")}
            for one in lines:
                if one["kind"] == "metric" and one["run"] == run_id and (one["step"], one["value"]) not in points:
                    found.lost.append(f"metric of run {run_id}, step {one['step']}")

    def _captures(self, found: Findings, answers: Sequence[Answer]) -> None:
        found.acknowledged += len(answers)
        here = {record.prediction_id for record in spooled(spools(self.home.shop, LIVE))}
        missing = [one for one in answers if one.prediction_id not in here]
        if any(one.prediction_id not in self._captured for one in missing):
            self._read_new()
        found.lost += [
            f"capture {one.prediction_id} of {one.replica}"
            for one in missing
            if one.prediction_id not in self._captured
        ]

    def _read_new(self) -> None:
        import pyarrow.parquet as pq

        store = self.home.shop.store
        for key in {item.key for item in store.list(f"{CAPTURES}/{LIVE}")} - self._keys:
            table = pq.ParquetFile(BytesIO(store.get_bytes(key)), pre_buffer=False).read(["prediction_id"])
            self._captured |= set(table["prediction_id"].to_pylist())
            self._keys.add(key)

    def _errand(self, found: Findings, errand: Errand, entries: Sequence[Entry]) -> None:
        found.acknowledged += 1
        state = self.home.prefect.read_flow_run(UUID(errand.run_id)).state
        if state is None or not state.is_completed():
            said = f"{state.name}: {state.message}"[:200] if state else "no state"
            found.unfinished.append(f"errand {errand.number}, flow run {errand.run_id}: {said}")
            return
        num = _times(entries, PROMOTE, f"errand{errand.number}")
        if num != 1:
            (found.double if num else found.lost).append(f"errand {errand.number}: promoted {num} times")
        self._tracked(found, errand)

    def _tracked(self, found: Findings, errand: Errand) -> None:
        tracking = self.home.shop.tracking
        wanted = f"tags.`{KEY}` = '{key_of('errand', errand.number)}'"
        runs = tracking.client.search_runs([tracking.experiment(chaos_flow.product_of(errand.number))], wanted)
        if [run.info.status for run in runs] != ["FINISHED"]:
            said = ", ".join(run.info.status for run in runs) or "none"
            (found.double if len(runs) > 1 else found.lost).append(f"errand {errand.number}: its tracked runs: {said}")


def settled(answers: Sequence[Answer], kills: Sequence[tuple[float, str]]) -> list[Answer]:
    """The answers whose replica lived on for half a second: until then their capture is promised to nobody."""
    return [
        one for one in answers if not any(one.replica == name and 0 <= at - one.at <= UNSYNCED_S for at, name in kills)
    ]


def _ledger(found: Findings, lines: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> None:
    """Notes, registrations and promotions are in the chain; a promotion once."""
    found.acknowledged += len(lines)
    digests = {entry.seq: entry.digest for entry in entries}
    registered = Counter(entry.details["evidence"] for entry in entries if entry.action == REGISTER)
    promoted = Counter(entry.details["evidence"] for entry in entries if entry.action == PROMOTE)
    for line in lines:
        if line["kind"] == "entry" and digests.get(line["seq"]) != line["digest"]:
            found.lost.append(f"ledger entry {line['seq']}: not there as acknowledged")
        if line["kind"] == "version" and not registered[line["evidence"]]:
            found.lost.append(f"registration {line['evidence']} of {chaos_drivers.product_of(line['number'])}")
        if line["kind"] == "promotion" and promoted[line["evidence"]] != 1:
            side = found.double if promoted[line["evidence"]] else found.lost
            side.append(f"promotion {line['evidence']}: {promoted[line['evidence']]} times in the ledger")


def _times(entries: Sequence[Entry], action: str, evidence: str) -> int:
    return sum(entry.action == action and entry.details["evidence"] == evidence for entry in entries)
