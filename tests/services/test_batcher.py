"""Requests that share a call are answered as if each had come alone."""

import asyncio
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.answers import Refusal
from services.batcher import Batcher, check_wait
from services.observe import Load, Metrics

BUSY = 5  # requests in flight


class Doubling:
    """A graph that doubles, and remembers how many rows it got each time."""

    def __init__(self) -> None:
        self.num_rows: list[int] = []

    def __call__(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        self.num_rows.append(len(inputs["x"]))
        if np.isnan(inputs["x"]).any():
            raise RuntimeError("a row that breaks the graph")
        doubled: NDArray[np.float32] = inputs["x"] * np.float32(2)
        return doubled


def rows(*values: float) -> dict[str, NDArray[np.float32]]:
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


def busy(num: int = BUSY) -> Load:
    load = Load()
    load.in_flight = num
    return load


async def together(batcher: Batcher, *requests: dict[str, NDArray[np.float32]]) -> list[Any]:
    return await asyncio.gather(*(batcher.run(request) for request in requests), return_exceptions=True)


def test_without_a_window_each_runs_alone_and_at_once() -> None:
    graph = Doubling()
    answers = asyncio.run(together(Batcher(graph, 8, load=busy()), rows(1), rows(2, 3)))
    assert [answer.ravel().tolist() for answer in answers] == [[2], [4, 6]] and graph.num_rows == [1, 2]


def test_with_a_window_those_of_one_turn_share_a_call() -> None:
    graph, metrics = Doubling(), Metrics()
    batcher = Batcher(graph, 8, window_s=0.001, load=busy(), batched=metrics.batched)
    answers = asyncio.run(together(batcher, rows(1), rows(2, 3), rows(4)))
    assert [answer.ravel().tolist() for answer in answers] == [[2], [4, 6], [8]] and graph.num_rows == [4]
    assert b"roadworthy_batch_requests_sum 3.0" in metrics.exposition()


def test_never_more_rows_than_the_graph_takes() -> None:
    graph = Doubling()
    answers = asyncio.run(together(Batcher(graph, 4, window_s=0.001, load=busy()), *(rows(1, 2, 3) for _ in range(3))))
    assert len(answers) == 3 and graph.num_rows == [3, 3, 3]


def test_a_lone_request_does_not_wait_for_others() -> None:
    graph = Doubling()
    with pytest.raises(StopIteration):  # it never gives way to the event loop
        Batcher(graph, 8, window_s=60, load=busy(1)).run(rows(1)).send(None)
    assert graph.num_rows == [1]


def test_a_request_that_breaks_the_graph_breaks_no_other() -> None:
    graph = Doubling()
    answers = asyncio.run(
        together(Batcher(graph, 8, window_s=0.001, load=busy()), rows(1), rows(float("nan")), rows(2))
    )
    assert answers[0].tolist() == [[2]] and answers[2].tolist() == [[4]]
    assert isinstance(answers[1], RuntimeError)


def test_one_who_went_away_is_left_out() -> None:
    async def two() -> Any:
        batcher = Batcher(Doubling(), 8, window_s=0.001, load=busy())
        gone = asyncio.ensure_future(batcher.run(rows(1)))
        stays = asyncio.ensure_future(batcher.run(rows(2)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(two()).tolist() == [[4]]


def test_a_queue_longer_than_the_deadline_is_refused_with_a_time_to_come_back() -> None:
    async def queue() -> list[Any]:
        batcher = Batcher(Doubling(), 64, window_s=0.001, deadline_s=1.5, load=load)
        batcher.seconds_per_row = 1.0
        return await together(batcher, rows(1), rows(2), rows(3))

    load = busy()
    first, second, refusal = asyncio.run(queue())
    assert first.tolist() == [[2]] and second.tolist() == [[4]]
    assert isinstance(refusal, Refusal) and refusal.status == 503 and load.num_shed == 1
    assert dict(refusal.headers)[b"retry-after"] == b"2"


def test_who_waited_too_long_for_the_event_loop_is_refused() -> None:
    load = Load()
    check_wait(load, 0.2, 0.25)
    with pytest.raises(Refusal) as refusal:
        check_wait(load, 0.3, 0.25)
    assert dict(refusal.value.headers)[b"retry-after"] == b"1" and "300 ms" in refusal.value.got
    assert (load.longest_wait_s, load.num_shed) == (0.3, 1)


def test_steady_rows_of_one_turn_share_a_call_without_a_window() -> None:
    graph = Doubling()
    batcher = Batcher(graph, 8, num_steady_rows=3, load=busy())
    answers = asyncio.run(together(batcher, rows(1), rows(2), rows(3), rows(4), rows(5, 6, 7, 8)))
    assert [answer.ravel().tolist() for answer in answers] == [[2], [4], [6], [8], [10, 12, 14, 16]]
    assert graph.num_rows == [3, 1, 4]  # a request of its own size is never cut
