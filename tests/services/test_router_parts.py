"""The router's arithmetic: who is asked, how far two answers are apart, when a canary must go. No network."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from services.router_config import (
    Backend,
    CanaryGuard,
    RouterConfig,
    RouterConfigError,
    Shadow,
    Trip,
    read_config,
    read_trip,
    trip_path,
)
from services.router_diff import DIFFERENT, difference, disagreement, read_numbers
from services.router_guard import Watch, quantile
from services.router_pool import Pool, Upstream

GUARD = CanaryGuard(group="v2", max_error_share=0.1, min_requests=10, window_s=30, max_unready_s=5)


def pool_of(**weights: float) -> Pool:
    """`v1_0=50` is replica v1_0 of group v1, ready."""
    pool = Pool.__new__(Pool)
    backends = [
        Backend(name=name, url=f"http://{name}:1", group=name.partition("_")[0], weight=weight)
        for name, weight in weights.items()
    ]
    pool.config = RouterConfig(backends=tuple(backends), guard=CanaryGuard(group="v2", back_to="v1"))
    pool.upstreams = {one.name: Upstream(one) for one in backends}
    pool.off = frozenset()
    for one in pool.upstreams.values():
        one.is_ready = True
    return pool


def chosen(pool: Pool, clients: list[str]) -> dict[str, str]:
    return {client: cast(Upstream, pool.choose(client)).backend.name for client in clients}


CLIENTS = [f"client {number}" for number in range(2000)]


def test_clients_are_shared_by_weight_and_stay() -> None:
    pool = pool_of(v1_0=45, v1_1=45, v2_0=10)
    first = chosen(pool, CLIENTS)
    assert Counter(first.values())["v2_0"] == pytest.approx(200, abs=60)
    assert chosen(pool, CLIENTS) == first
    assert 120 < sum(cast(Upstream, pool.choose("")).backend.name == "v2_0" for _ in range(2000)) < 280


def test_a_growing_weight_takes_clients_and_moves_nobody_else() -> None:
    before, after = chosen(pool_of(v1_0=90, v2_0=10), CLIENTS), chosen(pool_of(v1_0=50, v2_0=50), CLIENTS)
    assert {after[client] for client in CLIENTS if before[client] == "v2_0"} == {"v2_0"}
    pool = pool_of(v1_0=50, v1_1=50, v2_0=50)
    before = chosen(pool, CLIENTS)
    pool.upstreams["v1_1"].is_ready = False
    after = chosen(pool, CLIENTS)
    assert all(before[client] in (after[client], "v1_1") for client in CLIENTS)


def test_a_group_taken_off_gets_nothing_and_the_one_before_takes_over() -> None:
    pool = pool_of(v0_0=0, v1_0=0, v2_0=100)
    assert set(chosen(pool, CLIENTS[:50]).values()) == {"v2_0"}
    pool.off = frozenset({"v2"})
    assert set(chosen(pool, CLIENTS[:50]).values()) == {"v1_0"}
    assert pool.choose("x", {"v1_0"}) is None


def answer(*values: float) -> bytes:
    return json.dumps({"predictions": [list(values)], "prediction_id": "differs"}).encode()


def test_answers_are_held_against_each_other_by_their_numbers() -> None:
    assert disagreement(200, answer(10, 5), 0, 200, answer(10, 4), 0) == pytest.approx(0.1)
    assert disagreement(200, answer(10), 0, 200, answer(10, 4), 0) == DIFFERENT
    assert disagreement(200, answer(1), 0, 200, answer(99), 0) == DIFFERENT
    assert disagreement(200, answer(1), 0, 422, b"{}", 0) == DIFFERENT
    assert disagreement(422, b"{}", 0, 422, b"no", 0) == 0.0
    assert disagreement(200, b"page", 0, 200, b"page", 0) == 0.0
    assert disagreement(200, b"page", 0, 200, answer(1), 0) == DIFFERENT
    assert difference(np.array([1.0]), np.array([np.nan])) == DIFFERENT
    classes = {"predictions": {"label": "a", "probability": 0.9, "probabilities": {"a": 0.9, "b": 0.1}}}
    numbers = read_numbers(json.dumps(classes).encode())
    assert numbers is not None and numbers.tolist() == [0.9, 0.1]


def test_tensors_of_the_open_inference_protocol_are_read_json_and_binary() -> None:
    values = np.array([[1.5, 2.5]], np.float32)
    plain = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": values.tolist()}]}
    head = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]}
    text = json.dumps(head).encode()
    body = json.dumps(plain).encode()
    assert disagreement(200, body, 0, 200, text + values.tobytes(), len(text)) == 0.0
    for broken in (b"", b"[1]", b'{"outputs": 3}', b'{"predictions": ["a"]}', b'{"outputs": [{"name": 1}]}'):
        assert read_numbers(broken) is None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(own: list[tuple[float, bool]], others: list[tuple[float, bool]] | None = None) -> tuple[Watch, Clock]:
    clock = Clock()
    watch = Watch(clock)
    for group, samples in (("v2", own), ("v1", others or [(0.01, False)] * 20)):
        for seconds, failed in samples:
            watch.answered(group, seconds, failed)
    return watch, clock


GOOD = (0.01, False)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ([GOOD] * 50, ""),
        ([(0.01, True)] * 9, ""),  # too few to prove anything
        ([(0.01, True)] * 2 + [GOOD] * 18, ""),
        ([(0.01, True)] * 3 + [GOOD] * 17, "errors: 3 of 20"),
        ([(0.04, False)] * 50, ""),  # within twice the p99 of the others and the slack
        ([(0.5, False)] * 2 + [GOOD] * 18, ""),  # two outliers
        ([(0.5, False)] * 3 + [GOOD] * 17, "latency: p99 of v2 is 500.0 ms, of the others 10.0 ms"),
    ],
)
def test_a_canary_is_judged_by_errors_and_latency(own: list[tuple[float, bool]], reason: str) -> None:
    watch, clock = watched(own)
    others_fail, _ = watched(own, [(0.01, True)] * 20)
    found = watch.breach(GUARD, is_ready=True)
    assert found.startswith(reason) and bool(found) == bool(reason)
    if reason.startswith("errors"):  # requests that break every version are not its fault
        assert others_fail.breach(GUARD, is_ready=True) == ""
    clock.now += 31
    assert watch.breach(GUARD, is_ready=True) == ""  # out of the window


def test_requests_that_hang_count_while_they_hang() -> None:
    watch, _ = watched([])
    assert watch.breach(GUARD, True, waiting_s=[5.0] * 10).startswith("latency")
    assert watch.breach(GUARD, True, waiting_s=[0.001] * 10) == ""


def test_disagreement_and_readiness() -> None:
    watch, clock = watched([])
    for number in range(10):
        watch.compared(0.5 if number % 2 else 0.3, number > 1, f"p{number}")
    assert watch.breach(GUARD, True).startswith("disagreement: the answers of v2 differ by 40.0%")
    assert (watch.diffs.num_different_status, watch.diffs.worst_id) == (2, "p9")
    watch.begin()
    assert watch.breach(GUARD, is_ready=False) == ""
    clock.now += 5.1
    assert watch.breach(GUARD, is_ready=False).startswith("ready: v2")
    assert watch.breach(GUARD, is_ready=True) == ""
    assert quantile([], 0.99) == 0.0


def test_a_configuration_is_refused_with_its_reason(tmp_path: Path) -> None:
    one = {"name": "a", "url": "http://127.0.0.1:1", "group": "v1"}
    wrong: list[Any] = [
        "no json", {"backends": [one, one]}, {"backends": [one], "shadow": {"group": "v2"}}, {"extra": 1},
        {"backends": [one | {"url": "file:///etc/passwd"}]}, {"backends": [one | {"weight": -1}]},
    ]  # fmt: skip
    for content in wrong:
        (tmp_path / "router.json").write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(RouterConfigError, match=r"router\.json: expected a router's configuration"):
            read_config(tmp_path / "router.json")
    with pytest.raises(RouterConfigError):
        read_config(tmp_path / "none.json")
    good = RouterConfig(backends=(Backend.model_validate(one),), shadow=Shadow(group="v1"))
    (tmp_path / "router.json").write_text(good.model_dump_json())
    assert read_config(tmp_path / "router.json") == good


def test_a_trip_holds_for_its_own_attempt(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    assert read_trip(path, "a") is None
    trip = Trip(roll_out="a", group="v2", reason="errors", time="2026-01-01T00:00:00+00:00")
    trip_path(path).write_text(trip.model_dump_json())
    assert read_trip(path, "a") == trip and read_trip(path, "b") is None
