"""Runs predictions on the event loop, those that were read in the same turn of it together.

A graph takes 30-100 µs for a row, a hop to a thread and back as much again, and ONNX Runtime is bound to one thread: a
pool would only reorder the same work. One call for several rows costs far less than a call each. Strangers' requests
share one only as far as the model was seen to give every row the same bytes alone (`models.artifact.steadiness`), or
where somebody set a window and so took what comes.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.answers import overloaded
from services.observe import Load

Inputs = dict[str, NDArray[Any]]
Predict = Callable[[Inputs], NDArray[np.float32]]

_NEWEST_SHARE = 0.1  # of a measurement in the running mean of seconds per row


def rows_in(inputs: Inputs) -> int:
    """How many rows these inputs have; every one of them has as many."""
    return len(next(iter(inputs.values())))


def check_wait(load: Load, seconds: float, deadline_s: float) -> None:
    """Note how long a request waited for its turn; raises Refusal 503 when that is longer than its deadline."""
    if seconds > load.longest_wait_s:
        load.longest_wait_s = seconds
    if seconds > deadline_s:
        load.num_shed += 1
        expected, got = f"to begin an answer within {1000 * deadline_s:g} ms", f"{1000 * seconds:.0f} ms"
        raise overloaded("the service is overloaded", "queue", expected, got, seconds)


class _Waiting(NamedTuple):
    inputs: Inputs
    num_rows: int
    answered: "asyncio.Future[NDArray[np.float32]]"


class Batcher:
    """Predicts with one model; never more rows at once than `max_batch`."""

    def __init__(
        self,
        predict: Predict,
        max_batch: int,
        num_steady_rows: int = 1,
        window_s: float = 0.0,
        deadline_s: float = float("inf"),
        load: Load | None = None,
        batched: Callable[[int], None] | None = None,
    ) -> None:
        """`num_steady_rows` may share a call without a window; `batched` is told how many requests shared one."""
        self._predict, self._window_s, self._deadline_s = predict, window_s, deadline_s
        self._max_rows = max_batch if window_s else min(num_steady_rows, max_batch)
        self._load, self._batched = load or Load(), batched
        self._waiting: list[_Waiting] = []
        self._num_rows = 0
        self._timer: asyncio.Handle | None = None
        self.seconds_per_row = 0.0

    async def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """The graph's output; raises Refusal 503 when the rows before these would take longer than the deadline."""
        num_in_flight, num_rows = self._load.in_flight, rows_in(inputs)
        if self._max_rows == 1 or (num_in_flight <= 1 and not self._waiting and (num_in_flight or not self._window_s)):
            return self._timed(inputs, num_rows)
        return await self._among_others(inputs, num_rows)

    def _among_others(self, inputs: Inputs, num_rows: int) -> "asyncio.Future[NDArray[np.float32]]":
        check_wait(self._load, self._num_rows * self.seconds_per_row, self._deadline_s)
        if self._num_rows + num_rows > self._max_rows:
            self._flush()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        self._waiting.append(_Waiting(inputs, num_rows, answered))
        self._num_rows += num_rows
        if self._timer is None:
            wait = partial(loop.call_later, self._window_s) if self._window_s else loop.call_soon
            self._timer = wait(self._flush)
        return answered

    def _flush(self) -> None:
        waiting, self._waiting, self._num_rows = self._waiting, [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not waiting:
            return
        if self._batched is not None:
            self._batched(len(waiting))
        together = waiting[0].inputs
        if len(waiting) > 1:
            together = {name: np.concatenate([one.inputs[name] for one in waiting]) for name in together}
        try:
            outputs = self._timed(together, rows_in(together))
        except Exception as error:  # the service edge: nobody waits for ever, and one's rows break no other's
            self._answer_each(waiting, error)
            return
        begin = 0
        for one in waiting:
            if not one.answered.done():  # a client may have gone
                one.answered.set_result(outputs[begin : begin + one.num_rows])
            begin += one.num_rows

    def _answer_each(self, waiting: list[_Waiting], error: Exception) -> None:
        """Predict one by one what did not go together."""
        for one in waiting:
            if one.answered.done():
                continue
            if len(waiting) == 1:
                one.answered.set_exception(error)
                continue
            try:
                one.answered.set_result(self._timed(one.inputs, one.num_rows))
            except Exception as own_error:  # the service edge: as above
                one.answered.set_exception(own_error)

    def _timed(self, inputs: Inputs, num_rows: int) -> NDArray[np.float32]:
        started = time.perf_counter()
        outputs = self._predict(inputs)
        seconds_per_row = (time.perf_counter() - started) / num_rows
        self.seconds_per_row += _NEWEST_SHARE * (seconds_per_row - self.seconds_per_row)
        return outputs
