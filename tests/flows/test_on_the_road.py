"""A promotion whose roll-out goes back: registry, road and page say the same, with a real router and replicas."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.deploy import deploy, undeploy
from flows.deployed import deployments
from flows.on_the_road import on_the_road
from flows.promote import registered
from flows.promote_from_ui import settle
from flows.workshop import Workshop
from infra import version_page
from infra.promotion import Evidence
from tests.flows.tiny_home import OTHER, tiny_home

pytestmark = pytest.mark.services
PLAN = {"canary": [100.0], "dwell_s": 0.3, "min_requests": 5, "max_disagreement": 0.1, "max_latency_ratio": 100.0}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Version 1 of `tiny` is live and deployed; 2 answers otherwise and has its one approval."""
    one = tiny_home(tmp_path, OTHER)
    live = registered(one, "tiny", 1)
    second = registered(one, "tiny", 2)
    one.registry.judged_again(second, Evidence("asked", True, num_approvals=1, against=live.digest))
    one.registry.approve(second, "asked", "alice")
    deploy(one, "tiny", is_open=True)
    yield one
    undeploy(one, "tiny")


def test_what_the_road_turns_back_is_not_live_either(shop: Workshop) -> None:
    shop.registry.client.set_registered_model_alias("tiny", "champion", "2")
    record = settle(shop, "tiny", 2, PLAN)
    assert (record["verdict"], record["road"]["verdict"]) == ("refused", "rolled back")
    assert "disagreement" in record["reasons"][0]
    live = shop.registry.live("tiny")
    assert live is not None and live.version == 1 == deployments(shop).read("tiny").version
    page = shop.registry.client.get_model_version("tiny", "2")
    assert page.tags[version_page.REFUSED].startswith("its roll-out went back: disagreement")
    assert [e.action for e in shop.ledger.entries("tiny")][-3:] == ["roll_back", "rollback", "refuse"]
    assert settle(shop, "tiny", 2, PLAN)["verdict"] == "nothing"
    assert on_the_road(shop, "tiny", PLAN)["verdict"] == "packaged"  # what is live is on the road already
