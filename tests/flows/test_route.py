"""Ways from the command line: what is said where there is nothing to plan with."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from flows.closed_loop_route import code_digest, refuse_seen
from flows.options import UsageError
from flows.route import Wish, _read, find_ways
from flows.workshop import open_workshop

WISH = Wish("A0", "B1")


def test_a_product_that_is_not_live_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADWORTHY_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="nothing is live"):
        find_ways(open_workshop(), "no_such_city", WISH)


@pytest.mark.parametrize(("text", "message"), [(None, "expected a file"), ("{", "expected JSON"), ("[1]", "got list")])
def test_a_request_file_that_is_none_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "request.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        _read(path)


@pytest.mark.parametrize(("first", "is_seen"), [(0, True), (2, True), (3, False), (9000, False), (99_999, True)])
def test_days_that_travel_times_were_learned_from_are_refused(first: int, is_seen: bool) -> None:
    with pytest.raises(UsageError, match="expected seeds from 3") if is_seen else nullcontext():
        refuse_seen([first, first + 1])


def test_the_loop_s_code_has_a_digest() -> None:
    assert len(code_digest()) == 64
