"""Quotas and shut-outs by arithmetic: what comes back when, and that memory is bounded."""

import pytest

from services import quotas
from services.quotas import MAX_NAMES, Quotas, Strikes, is_loopback, network


class Clock:
    """A clock that stands until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_requests_at_once_then_evenly() -> None:
    clock = Clock()
    limit = Quotas(clock)
    assert [limit.wait_s("a", 6) for _ in range(6)] == [0.0] * 6
    assert limit.wait_s("a", 6) == pytest.approx(10.0)
    assert limit.wait_s("b", 6) == 0.0
    clock.now += 10.0
    assert limit.wait_s("a", 6) == 0.0 and limit.wait_s("a", 6) > 0
    clock.now += 3600
    assert [limit.wait_s("a", 6) for _ in range(7)].count(0.0) == 6  # a quiet hour saves up one minute, not sixty


def test_what_was_refused_costs_nothing() -> None:
    clock = Clock()
    limit = Quotas(clock)
    limit.wait_s("a", 1)
    for _ in range(100):
        assert limit.wait_s("a", 1) == pytest.approx(60.0)


def test_guessers_are_shut_out_for_longer_and_longer() -> None:
    clock = Clock()
    strikes = Strikes(allowed=3, clock=clock)
    pauses = []
    for _ in range(9):
        for _ in range(3):
            assert strikes.wait_s("10.0.0.1") == 0.0
            strikes.failed("10.0.0.1")
        pauses.append(strikes.wait_s("10.0.0.1"))
        clock.now += pauses[-1]
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert strikes.wait_s("10.0.0.2") == 0.0
    clock.now += 3601
    strikes.failed("10.0.0.1")
    assert strikes.wait_s("10.0.0.1") == 0.0


def test_a_few_mistakes_a_minute_are_nobodys_business() -> None:
    clock = Clock()
    strikes = Strikes(allowed=3, clock=clock)
    for _ in range(20):
        strikes.failed("10.0.0.1")
        assert strikes.wait_s("10.0.0.1") == 0.0
        clock.now += 31


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, strikes = Quotas(Clock()), Strikes(allowed=1, clock=Clock())
    for number in range(MAX_NAMES + 50):
        limit.wait_s(f"k{number}", 1)
        strikes.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._levels) == len(strikes._records) == MAX_NAMES
    assert strikes.wait_s("10.0.0.0") == 0.0 and strikes.wait_s("10.0.39.1") > 0  # the latest are kept


def test_a_customer_of_ipv6_is_one_address() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1%eth0") != network("2001:db8:0:1::1")
    assert network("10.0.0.1") == "10.0.0.1" and network("not:an:address") == "not:an:address"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback(address: str) -> None:
    assert quotas.is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "", "127.0.0.1.example.org", "local", "2130706433"])
def test_not_loopback(address: str) -> None:
    assert not is_loopback(address)
