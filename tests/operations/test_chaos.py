"""Rounds of the chaos suite on the running services profile: what was acknowledged is found again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.chaos_asker import Answer
from bench.chaos_check import settled
from bench.chaos_journal import Journal, acknowledged, read_lines

ROOT = Path(__file__).parents[2]


@pytest.mark.services
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_kills(operations: Any) -> None:
    words = ("--here", "--rounds", "2", "--seed", "3", "--only", "replica", "promoter", "--json")
    command = [sys.executable, "-m", "bench.chaos", *words]
    done = subprocess.run(command, cwd=ROOT, env=operations.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = json.loads(done.stdout)
    assert (record["rounds"], record["lost"], record["double"], record["unfinished"]) == (2, 0, 0, 0)
    assert {row["name"] for row in record["faults"]} == {"replica", "promoter"}
    assert all(row["acknowledged"] > 0 and row["unanswered"] == 0 for row in record["faults"])


def test_a_line_that_was_cut_off_promises_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add("begun", number=1)
    journal.add("entry", number=1, seq=7)
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "entry", "num')
    assert [line["kind"] for line in read_lines(journal.path)] == ["begun", "entry"]
    assert [line["seq"] for line in acknowledged(journal.path)] == [7]


def test_a_capture_is_promised_once_its_replica_lived_on_for_half_a_second() -> None:
    answers = [
        Answer(10.0, "a", "v1-0"),
        Answer(10.4, "b", "v1-0"),
        Answer(10.4, "c", "v1-1"),
        Answer(11.0, "d", "v1-0"),
    ]
    kept = settled(answers, [(10.6, "v1-0")])
    assert [one.prediction_id for one in kept] == ["a", "c", "d"]
