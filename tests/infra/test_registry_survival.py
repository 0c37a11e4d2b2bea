"""What a promotion survives: SIGKILL after each of its steps, and a registry behind HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest

from infra import tracked_model
from infra.ledger import Ledger
from infra.promotion import Evidence
from infra.refs import ModelRef
from infra.registry import Registry
from infra.settings import Settings, child_environment
from infra.tracking import Tracking

pytestmark = pytest.mark.services
ROOT = Path(__file__).parents[2]
GRAPH = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[B,3] x) => (float[B,3] y) { y = Identity(x) }"""


def open_registry(config: Settings) -> Registry:
    return Registry(config, Ledger(config.folder / "ledger" / "ledger.jsonl"))


def register(registry: Registry, number: int, source: str = "", run_id: str = "0" * 32) -> ModelRef:
    return registry.register(
        "oregon",
        digest=f"parcel{number}",
        source=source or f"runs:/{run_id}/parcel{number}",
        run_id=run_id,
        evidence=Evidence(f"evidence{number}", True),
    )


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: int(version) for alias, version in registry.client.get_registered_model("oregon").aliases.items()}


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import mlflow.tracking, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from infra.ledger import Ledger
from infra.refs import ModelRef
from infra.registry import Registry
from infra.settings import Settings

def killed_at(step, home):
    registry = Registry(Settings(home=home), Ledger(home / "ledger" / "ledger.jsonl"))
    ref = ModelRef(product="oregon", version=2, digest="parcel2")
    for number, name in enumerate(registry.promotion_steps(ref, "evidence2")):
        (home / "step").write_text(name)
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

prepared, is_killed, step = Path(sys.argv[1]), True, 0
while is_killed:  # until a promotion has fewer steps than this
    home = prepared.with_name(f"killed{step}")
    shutil.copytree(prepared, home)
    child = os.fork()
    if not child:
        killed_at(step, home)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    is_killed = os.WIFSIGNALED(status)
    step += 1
assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status
"""


def test_killed_anywhere_the_old_or_the_new_state_holds_whole(config: Settings, tmp_path: Path) -> None:
    registry = open_registry(config)
    first, second = register(registry, 1), register(registry, 2)
    registry.promote(first, "evidence1")
    registry.client._tracking_client.store.engine.dispose()  # the last connection writes its log into the database
    subprocess.run([sys.executable, "-c", KILLED, str(config.folder)], cwd=ROOT, check=True)
    steps = []
    for home in sorted(tmp_path.glob("killed*"), key=lambda path: int(path.name.removeprefix("killed"))):
        steps.append((home / "step").read_text())
        survivor = open_registry(Settings(home=home))
        is_new = "ledger" in steps
        assert survivor.live("oregon") == (second if is_new else first)
        assert survivor.ledger.verify() == (4 if is_new else 3)
        assert survivor.reconcile("oregon") == []  # an interrupted promotion is not called a moved alias
        assert aliases(survivor) == ({"champion": 2, "challenger": 1} if is_new else {"champion": 1})
        survivor.promote(second, "evidence2")
        assert survivor.live("oregon") == second
        assert [e.action for e in survivor.history("oregon")] == ["register", "register", "promote", "promote"]
        assert survivor.audit() == []
    assert steps[:5] == ["reconciled", "checked", "ledger", "champion", "challenger"] and steps[-1] == "projected"


@pytest.fixture
def served(config: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A real MLflow server on a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", config.mlflow_uri, "--artifacts-destination", str(tmp_path / "served"),
    ]  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        environment = child_environment(config)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    remote = config.model_copy(update={"tracking_uri": f"http://127.0.0.1:{port}"})
    deadline_s = time.monotonic() + 120
    while not is_healthy(remote):
        assert process.poll() is None and time.monotonic() < deadline_s, (tmp_path / "server.log").read_text()
        time.sleep(0.2)
    yield remote
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def is_healthy(config: Settings) -> bool:
    try:
        return httpx.get(f"{config.tracking_uri}/health").status_code == 200
    except httpx.TransportError:
        return False


def log_parcel(tracking: Tracking, folder: Path) -> tuple[str, str]:
    run = tracking.lifecycle_run("oregon", "key1", {"train": {"num_epochs": 5}})
    tracking.log_table(run.run_id, "candidates", [{"name": "linear"}])
    folder.mkdir()
    onnx.save(onnx.parser.parse_model(GRAPH), folder / "model.onnx")
    rows = np.ones((2, 3), "float32")
    source = tracked_model.log_model_parcel(
        tracking, run, folder, name="linear", digest="parcel1", inputs={"x": rows}, outputs=rows, metrics={"mae": 3.5}
    )
    tracking.finish(run.run_id)
    return run.run_id, source


def test_through_a_server(served: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id, source = log_parcel(Tracking(served), tmp_path / "parcel")
    registry = open_registry(served)
    first, second = register(registry, 1, source, run_id), register(registry, 2)
    registry.promote(first, "evidence1")
    registry.promote(second, "evidence2")
    registry.client.set_registered_model_alias("oregon", "champion", str(first.version))
    (found,) = registry.audit(fix=True)
    assert (found.kind, found.fixed) == ("alias_moved", True)
    assert aliases(registry) == {"champion": second.version, "challenger": first.version}
    assert registry.rollback("oregon") == first and registry.audit() == []
    assert registry.client.get_model_version_by_alias("oregon", "champion").source == source
    files = registry.client.list_logged_model_artifacts(source.removeprefix("models:/"))
    assert "model.onnx" in {file.path for file in files}
    assert capsys.readouterr().out == ""
