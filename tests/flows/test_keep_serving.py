"""The part `serving` of the platform: what is live is served, again after a kill, and nothing is left when it ends."""

import os
import signal
import subprocess
import sys

import pytest

from flows import keep_serving
from flows.workshop import Workshop
from infra.processes import marked, stop_marked
from infra.ready import wait_for
from infra.stack import Stack, stack_mark
from tests.flows.tiny_home import tiny_home

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return tiny_home(tmp_path_factory.mktemp("home"))


def test_what_does_not_start_is_tried_again_later(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_serving.command(shop, "tiny")[-2:] == ["deploy", "tiny"]
    monkeypatch.setattr(keep_serving, "command", lambda _shop, _product: [sys.executable, "-c", "raise SystemExit(1)"])
    assert keep_serving.bring_back(shop, "tiny") is False


def test_what_is_live_is_served_until_the_end(shop: Workshop) -> None:
    environment = {
        **os.environ,
        "ROADWORTHY_HOME": str(shop.home),
        "ROADWORTHY_SERVE_PORT": str(shop.config.serve_port),
    }
    ready = f"http://127.0.0.1:{shop.config.serve_port}/readyz"
    group = Stack(shop.config, shop.home / "deployments" / "tiny")
    assert keep_serving.missing(shop) == ["tiny"]
    role = subprocess.Popen([sys.executable, "-m", "flows.role", "serving"], env=environment)
    try:
        assert wait_for(ready, 120, lambda: role.poll() is None)
        stop_marked(5.0, **stack_mark(shop.config, group.folder))  # as when their container was killed
        assert not keep_serving.is_running(shop, "tiny")
        assert wait_for(ready, 120, lambda: role.poll() is None) and keep_serving.missing(shop) == []
        role.send_signal(signal.SIGTERM)
        assert role.wait(60) == 0
        assert group.status() == [] and marked(**stack_mark(shop.config, group.folder)) == []
    finally:
        role.kill()
        group.down()
