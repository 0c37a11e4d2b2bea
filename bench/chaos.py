"""Breaks a whole services home again and again, and looks for what it had acknowledged.

Every round, one fault at a random moment, while processes track runs, register, promote, write the ledger, a client
asks for predictions, and the worker runs flows. Afterwards all that was acknowledged must be found, once.

    .venv/bin/python -m bench.chaos --rounds 20 --seed 7 --json
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from bench import chaos_isolation
from bench.chaos_asker import Asker
from bench.chaos_check import Checker, Errand, Findings, settled
from bench.chaos_clock import Clock
from bench.chaos_drivers import DRIVERS, new_number
from bench.chaos_faults import FAULTS, Fault, World
from bench.chaos_home import Home, until
from bench.chaos_journal import acknowledged, read_lines
from infra.prometheus import PrometheusError, find_program
from infra.settings import settings

NUM_ERRANDS = 2
SETTLE_S = 300.0  # a run that has not ended by then stays unfinished
FIND_S = 60.0
COLUMNS = ("fault", "rounds", "acknowledged", "lost", "unfinished", "double", "unanswered", "retried", "seconds")


@dataclass
class Round:
    """One fault and what became of it; `seconds` from the fault until everything went on."""

    fault: str
    note: str
    seconds: float
    findings: Findings
    num_unanswered: int
    num_retried: int
    trouble: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        found = self.findings
        kept = {"lost": found.lost, "unfinished": found.unfinished, "double": found.double, "trouble": self.trouble}
        return {
            "fault": self.fault, "note": self.note, "seconds": round(self.seconds, 1),
            "acknowledged": found.acknowledged, "unanswered": self.num_unanswered, "retried": self.num_retried, **kept,
        }  # fmt: skip


@dataclass
class Suite:
    """The rounds over one home."""

    world: World
    asker: Asker
    checker: Checker
    first: int = field(default_factory=new_number)
    errands: list[Errand] = field(default_factory=list)

    @property
    def home(self) -> Home:
        return self.world.home

    def round(self, fault: Fault) -> Round:
        """Write and ask, break, mend, wait until everything goes on, look."""
        since, first = time.monotonic(), len(self.errands)
        self.world.note = ""
        self.home.keep_writing()
        for _ in range(NUM_ERRANDS):
            number = self.first + len(self.errands)
            self.errands.append(Errand(number, self.home.send_errand(number)))
        time.sleep(self.world.random.uniform(0.0, 8.0))
        broken = time.monotonic()
        fault.inject(self.world)
        time.sleep(self.world.random.uniform(*fault.hold_s))
        fault.heal(self.world)
        mended = time.monotonic()
        until(lambda: self._goes_on(mended, self.errands[first:]), SETTLE_S)
        seconds = time.monotonic() - broken
        return Round(
            fault.name, self.world.note, seconds, self.look(since, self.errands[first:]),
            sum(at >= since for at in self.asker.unanswered), sum(at >= since for at in self.asker.retried),
            self.trouble(since),
        )  # fmt: skip

    def _goes_on(self, mended: float, errands: Sequence[Errand]) -> bool:
        """Whether all programs run, everybody has been served since, and no flow is at work."""
        self.home.keep_writing()
        if self.home.not_running():
            return False
        if not all(self._wrote(name, mended) for name in DRIVERS):
            return False
        answered = self.asker.answers[-1].at if self.asker.answers else 0.0
        return answered > mended and all(self._is_over(errand) for errand in errands)

    def _wrote(self, name: str, mended: float) -> bool:
        """A kind of thing that was begun after it: two steps, for the first may have waited all along."""
        return len(acknowledged(self.home.journal(name), mended)) > 1

    def _is_over(self, errand: Errand) -> bool:
        try:
            state = self.home.prefect.read_flow_run(UUID(errand.run_id)).state
        except Exception:  # a server that is still coming up
            return False
        return state is not None and (state.is_completed() or state.is_failed())

    def look(self, since: float, errands: Sequence[Errand]) -> Findings:
        """What is found of all that was acknowledged; what is not there is looked for again for a while."""
        upto = time.monotonic() - 1.0
        answers = [one for one in self.asker.answers if since <= one.at <= upto]
        deadline = time.monotonic() + FIND_S
        while True:
            try:
                found = self.checker.look(since, settled(answers, self.world.kills), errands)
            except Exception as error:
                found = Findings(lost=[f"cannot look: {type(error).__name__}: {error}"[:300]])
            if not (found.lost or found.unfinished) or time.monotonic() > deadline:
                return found
            time.sleep(2.0)

    def trouble(self, since: float) -> list[str]:
        """What the writers and programs complained of, for whoever wants to know why."""
        lines = [line for name in DRIVERS for line in read_lines(self.home.journal(name)) if line["at"] >= since]
        said = [line["what"] for line in lines if line["kind"] == "trouble"]
        return [*self.home.not_running(), *dict.fromkeys(said)][:8]

    def close(self) -> list[str]:
        """Stop writing; whatever is not as the ledger says, at the very end."""
        self.asker.stop()
        self.home.stop_writing()
        problems = self.home.shop.registry.audit(fix=True)
        return [f"{one.kind} {one.product} {one.what}: {one.got}" for one in problems if not one.fixed]


def plan(num_rounds: int, world: World, only: Sequence[str]) -> tuple[list[Fault], dict[str, str]]:
    """Which fault in which round: all of them in a random order, again and again; and what is left out, and why."""
    wanted = [fault for fault in FAULTS if not only or fault.name in only]
    left_out = {fault.name: why for fault in wanted if (why := fault.missing(world))}
    able = [fault for fault in wanted if fault.name not in left_out]
    rounds: list[Fault] = []
    while able and len(rounds) < num_rounds:
        rounds += world.random.sample(able, len(able))
    return rounds[:num_rounds], left_out


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Make the home, break it, look, take it down; the record."""
    forget_settings()
    base = Path(tempfile.mkdtemp(prefix="roadworthy-chaos-"))
    home = Home(base / "home", base / "aside")
    home.aside.mkdir()
    clock = Clock(base) if Clock.is_possible() else None
    home.extra = clock.environment if clock else {}
    if given.inside:
        chaos_isolation.mount(home.folder)
    try:
        home.make()
        return rounds(World(home, random.Random(given.seed), given.inside, clock), given)
    finally:
        home.stop_writing()
        home.down()
        if given.inside:
            chaos_isolation.unmount(home.folder)
        shutil.rmtree(base, ignore_errors=True)


def run_on(given: argparse.Namespace) -> dict[str, Any]:
    """The same on a services home that runs already, with its settings in the environment; it stays up."""
    with tempfile.TemporaryDirectory(prefix="roadworthy-chaos-") as folder:
        home = Home(settings().folder, Path(folder))
        try:
            return rounds(World(home, random.Random(given.seed), is_isolated=False, clock=None), given)
        finally:
            home.stop_writing()


def forget_settings() -> None:
    """What is set for another home must not reach this one."""
    for name in [name for name in os.environ if name.startswith(("ROADWORTHY_", "MLFLOW_", "PREFECT_", "BENTOML_"))]:
        del os.environ[name]


def rounds(world: World, given: argparse.Namespace) -> dict[str, Any]:
    """All rounds over a home that is up; the record."""
    world.home.deploy_errand()
    suite = Suite(world, world.home.asker(), Checker(world.home))
    suite.asker.start()
    faults, left_out = plan(given.rounds, world, given.only)
    done = []
    for number, fault in enumerate(faults, 1):
        done.append(suite.round(fault))
        say(f"round {number} of {len(faults)}: {json.dumps(done[-1].record())}")
    problems = suite.close()
    everything = suite.look(0.0, suite.errands)
    return summary(given.seed, done, everything, problems, left_out, world.is_isolated)


def summary(
    seed: int,
    rounds: Sequence[Round],
    everything: Findings,
    problems: Sequence[str],
    left_out: dict[str, str],
    is_isolated: bool,
) -> dict[str, Any]:
    """A row for each fault; `lost` counts the rounds' and what the look at everything at the end found."""
    rows = [_row(fault, [one for one in rounds if one.fault == fault.name]) for fault in FAULTS]
    return {
        "rounds": len(rounds),
        "lost": sum(row["lost"] for row in rows) + len(everything.lost) + len(problems),
        "unfinished": len(everything.unfinished),
        "double": len(everything.double),
        "acknowledged": everything.acknowledged,
        "unanswered": sum(one.num_unanswered for one in rounds),
        "faults": [row for row in rows if row["rounds"]],
        "left_out": left_out,
        "at_the_end": {"lost": everything.lost, "unfinished": everything.unfinished, "problems": list(problems)},
        "seed": seed,
        "isolated": is_isolated,
    }


def _row(fault: Fault, rounds: Sequence[Round]) -> dict[str, Any]:
    found = [one.findings for one in rounds]
    return {
        "name": fault.name,
        "how": fault.how,
        "rounds": len(rounds),
        "acknowledged": sum(one.acknowledged for one in found),
        "lost": sum(len(one.lost) for one in found),
        "unfinished": sum(len(one.unfinished) for one in found),
        "double": sum(len(one.double) for one in found),
        "unanswered": sum(one.num_unanswered for one in rounds),
        "retried": sum(one.num_retried for one in rounds),
        "seconds": round(max((one.seconds for one in rounds), default=0.0), 1),
        "details": [one.record() for one in rounds if one.findings.lost or one.findings.unfinished],
    }


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def table(record: dict[str, Any]) -> str:
    """The rows, aligned."""
    rows = [[str(row["name" if name == "fault" else name]) for name in COLUMNS] for row in record["faults"]]
    widths = [max(len(row[place]) for row in [list(COLUMNS), *rows]) for place in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [COLUMNS, *rows]]
    skipped = [f"left out: {name}: {why}" for name, why in record["left_out"].items()]
    return "\n".join([*lines, *skipped, f"{record['rounds']} rounds, {record['lost']} lost"])


def bring_tools() -> None:
    """Prometheus on PATH, before there is no network: `up` would fetch it into the home."""
    with suppress(PrometheusError):  # the platform then comes up without it
        os.environ["PATH"] += os.pathsep + str(find_program(settings()).parent)


def main(words: Sequence[str]) -> int:
    """0 when nothing was lost, done twice or left unfinished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], choices=[fault.name for fault in FAULTS], metavar="FAULT")
    parser.add_argument("--here", action="store_true", help="break the running home of ROADWORTHY_HOME; kills only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if not (given.inside or given.here) and (found := chaos_isolation.isolation()):
        bring_tools()
        return chaos_isolation.enter(found, list(words))
    if given.inside:
        chaos_isolation.raise_loopback()
    record = run_on(given) if given.here else run(given)
    print(json.dumps(record, indent=1) if given.json else table(record))
    return int(bool(record["lost"] or record["unfinished"] or record["double"]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
