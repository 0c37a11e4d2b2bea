"""The writers of the chaos suite: each writes without a break and notes what it was told is done.

`python -m bench.chaos_drivers NAME JOURNAL`, in the home of the environment. What fails is tried again with the same
words, as any client would: a thing that is done twice because of that is for the platform to prevent.
"""

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.chaos_journal import Journal, read_lines
from flows.live import live_model
from flows.workshop import Workshop, open_workshop
from infra.promotion import Evidence

T = TypeVar("T")

LIVE, WRITTEN = "ring", "errand"  # the product that is served, and those that the drivers write
PER_PRODUCT = 12  # versions, before the next product begins: MLflow reads all of one at every step
NUM_POINTS = 3
RETRY_S = 0.3
PAUSE_S = {"promoter": 2.0, "tracker": 1.0, "scribe": 0.5}


def insist(journal: Journal, what: Callable[[], T]) -> T:
    """Try until it is done; what went wrong is noted, once in a row."""
    last = ""
    while True:
        try:
            return what()
        except Exception as error:  # whatever a killed server makes of a call
            said = f"{type(error).__name__}: {error}"[:300]
            if said != last:
                journal.add("trouble", what=said)
            last = said
            time.sleep(RETRY_S)


def new_number() -> int:
    """A number that no earlier suite in the same home began with."""
    return int(time.time())


def product_of(number: int) -> str:
    """The product that the promotion of this number is about."""
    return f"{WRITTEN}{number // PER_PRODUCT}"


def promoter(shop: Workshop, journal: Journal, first: int) -> None:
    """Register a version with evidence, promote it, and so on."""
    digest = insist(journal, lambda: live_model(shop, LIVE).digest)
    for number in itertools.count(first):
        evidence = Evidence(f"chaos{number}", passed=True)
        journal.add("begun", number=number)
        promote(shop, journal, product_of(number), digest, evidence, number)
        time.sleep(PAUSE_S["promoter"])


def promote(shop: Workshop, journal: Journal, product: str, digest: str, evidence: Evidence, number: int) -> None:
    """One version, from its registration to the road; both are noted when they are done."""
    run_id = "0" * 32
    ref = insist(
        journal,
        lambda: shop.registry.register(
            product, digest=digest, source=f"runs:/{run_id}/parcel", run_id=run_id, evidence=evidence
        ),
    )
    journal.add("version", number=number, product=product, version=ref.version, evidence=evidence.digest)
    insist(journal, lambda: shop.registry.promote(ref, evidence.digest))
    journal.add("promotion", number=number, product=product, version=ref.version, evidence=evidence.digest)


def tracker(shop: Workshop, journal: Journal, first: int) -> None:
    """Open a run, log points, finish it, and so on."""
    for number in itertools.count(first):
        journal.add("begun", number=number)
        run = insist(journal, lambda n=number: shop.tracking.lifecycle_run(WRITTEN, f"chaos{n}", {"number": n}))
        journal.add("run", number=number, run=run.run_id)
        for step in range(0 if run.finished else NUM_POINTS):
            value = number + step / 10
            insist(journal, lambda s=step, v=value: shop.tracking.log_metrics(run.run_id, {"value": v}, s))  # noqa: B023
            journal.add("metric", number=number, run=run.run_id, step=step, value=value)
        insist(journal, lambda: shop.tracking.finish(run.run_id))  # noqa: B023
        journal.add("finished", number=number, run=run.run_id)
        time.sleep(PAUSE_S["tracker"])


def scribe(shop: Workshop, journal: Journal, first: int) -> None:
    """Write an entry into the ledger, and so on."""
    for number in itertools.count(first):
        entry = insist(journal, lambda n=number: shop.ledger.append("note", WRITTEN, number=n))
        journal.add("entry", number=number, seq=entry.seq, digest=entry.digest)
        time.sleep(PAUSE_S["scribe"])


DRIVERS = {"promoter": promoter, "tracker": tracker, "scribe": scribe}


def main(name: str, path: Path) -> None:
    """Go on where the last process of this name was killed: with the number that it had begun."""
    first = max((int(line["number"]) for line in read_lines(path) if "number" in line), default=new_number())
    journal = Journal(path)
    DRIVERS[name](open_workshop(), journal, first)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
