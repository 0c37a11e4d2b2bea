"""Running SUMO's programs, and many parts side by side."""

import time
from pathlib import Path

import pytest

from infra.sumo_tools import in_parallel, program, run


@pytest.mark.sim
def test_a_program_is_found_and_its_complaint_is_handed_on() -> None:
    assert Path(program("netconvert")).is_file()
    with pytest.raises(RuntimeError, match=r"netconvert stopped with 1: .*no-such-option"):
        run("netconvert", "--no-such-option")


def test_parts_come_as_they_finish_and_a_failed_one_ends_the_rest() -> None:
    begun: list[int] = []

    def make(part: int) -> int:
        begun.append(part)
        if part == 1:
            raise RuntimeError("part 1 failed")
        time.sleep(0.01)
        return 10 * part

    assert sorted(in_parallel(make, [0, 2, 3], 2)) == [0, 20, 30]
    begun.clear()
    with pytest.raises(RuntimeError, match="part 1 failed"):
        list(in_parallel(make, [0, 1, *range(2, 500)], 1))
    assert len(begun) < 500
