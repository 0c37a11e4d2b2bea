"""What the demo starts, it ends; a service that dies says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import demo
from flows.workshop import Workshop
from infra.refs import BentoRef
from infra.settings import Settings


@pytest.mark.parametrize("code", ["raise SystemExit('the parcel was changed')", "import time; time.sleep(60)"])
def test_processes_are_ended_whatever_became_of_them(code: str) -> None:
    one = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    if "raise" in code:
        one.wait()
    demo._stop([one])
    assert one.returncode is not None


def test_a_service_that_dies_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = [sys.executable, "-c", "raise SystemExit('the parcel was changed')"]
    bento = BentoRef(product="ring", version=1, tag="ring:v1", path=str(tmp_path))
    monkeypatch.setattr(demo, "package_live", lambda *_: bento)
    monkeypatch.setattr(demo, "serving", lambda *_: (dying, {}))
    shop = Workshop(Settings(home=tmp_path))
    with pytest.raises(demo.NotServedError, match="the parcel was changed"), demo.served(shop, ["ring"]):
        pass
