"""What `up` and `serve` start: HTTP and gRPC of each product, a shipper, keys unless they are left out on loopback."""

from pathlib import Path

import pytest

from flows import package, up
from flows.options import UsageError
from flows.workshop import Workshop
from infra.stack import Stack
from infra.supervise import Program
from tests.flows.tiny_home import tiny_home

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return tiny_home(tmp_path_factory.mktemp("home"))


def test_every_product_is_served_over_both_protocols(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = up.serving_programs(shop)
    port = shop.config.serve_port
    assert program.argv[-4:] == ("--port", str(port), "--grpc-port", str(port + 1000))
    assert "ROADWORTHY_SERVE_AUTH" not in program.environment and program.url == f"http://127.0.0.1:{port}"
    (program,) = up.serving_programs(shop, is_open=True)
    assert program.environment["ROADWORTHY_SERVE_AUTH"] == "off"
    monkeypatch.setenv("ROADWORTHY_SERVE_TLS_CERT", "cert.pem")
    (program,) = up.serving_programs(shop)
    assert program.ready_url == f"https://127.0.0.1:{port}/readyz"


def test_nobody_else_is_let_in_without_a_key(shop: Workshop) -> None:
    everywhere = Workshop(shop.config.model_copy(update={"host": "0.0.0.0"}))
    with pytest.raises(UsageError, match=r"--open: expected a loopback host, got 0\.0\.0\.0"):
        up.serving_programs(everywhere, is_open=True)


def test_what_is_captured_is_shipped_once_for_all_products(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Program] = []
    monkeypatch.setattr(Stack, "up", lambda _self, programs, _progress: started.extend(programs) or [])
    up.bring_up(shop)
    assert [one.name for one in started] == ["prefect", "mlflow", "worker", "capture", "serve-tiny"]
    (shipper,) = (one for one in started if one.name == "capture")
    assert shipper.argv[1:4] == ("capture", "ship", "--watch") and Path(shipper.argv[0]).is_file()


def test_serving_listens_for_grpc_too(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(package.os, "execve", lambda _path, argv, _environment: commands.append(argv))
    package.serve_live(shop, "tiny", None, 7000)
    package.serve_live(shop, "tiny", None, 7000, 7007, as_json=True)
    assert [argv[-2:] for argv in commands] == [["--grpc-port", "8000"], ["--grpc-port", "7007"]]
    assert '"grpc": "127.0.0.1:7007"' in capsys.readouterr().out
    with pytest.raises(UsageError, match="port 65000: expected at most 64535"):
        package.serve_live(shop, "tiny", None, 65000)
