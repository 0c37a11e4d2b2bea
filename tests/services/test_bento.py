"""A real Bento, built by BentoML and served by processes of its own."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from infra.signing import sign_folder, signing_key
from services import bento
from services.schemas import Release

pytestmark = pytest.mark.services

FORBIDDEN = ("torch", "mlflow", "prefect", "boto3")
WATCH_IMPORTS = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {forbidden!r}:
            open({log!r}, "a").write(name + "\\n")
            raise ImportError(name + " is not in a serving container")
sys.meta_path.insert(0, Watch())
"""


@pytest.fixture(scope="session")
def model(released: tuple[Path, Release], tmp_path_factory: pytest.TempPathFactory) -> tuple[bento.Model, bento.Beside]:
    """The released parcel, signed, and the key to believe."""
    home = tmp_path_factory.mktemp("signed")
    key = signing_key(home)
    signature = sign_folder(released[0], home / "parcel.sig", key).read_bytes()
    (home / "release.json").write_bytes(bento.release_bytes(released[1]))
    release_signature = sign_folder(home / "release.json", home / "release.sig", key).read_bytes()
    return bento.Model(*released, signature, release_signature), bento.Beside(trust={key.id[:16]: key.public})


@pytest.fixture(scope="session")
def built(model: tuple[bento.Model, bento.Beside], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Tag and folder of the Bento, and BENTOML_HOME."""
    home = tmp_path_factory.mktemp("bentoml")
    return *bento.build(model[0], home, model[1]), home


Command = Callable[..., list[str]]


@contextmanager
def serving(
    folder: Path, home: Path, python_path: Path | None = None, serve: Command = bento.serve_command
) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """A client of the served Bento, once it answers `/livez`, and the process that `serve` started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = bento.serve_environment(os.environ, folder, home)
    environment |= {"ROADWORTHY_SERVE_AUTH": "off", "ROADWORTHY_SERVE_PUBLISHED_ON": "127.0.0.1"}
    if python_path:
        environment["PYTHONPATH"] += f":{python_path}"
    log = home / f"serve-{port}.log"
    with log.open("wb") as output:
        command = serve(folder, port=port)
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: answers(client), process, log)
            yield client, psutil.Process(process.pid)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the server's session."""
    for one in psutil.process_iter():
        if one.pid != process.pid and _session(one.pid) == process.pid:
            one.kill()
    process.kill()
    process.wait()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, log: Path | None = None
) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        if time.monotonic() > deadline or (process and process.poll() is not None):
            pytest.fail(f"never came true; {log.read_text()[-3000:] if log else ''}")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(
    built: tuple[str, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, psutil.Process, Path]]:
    """The served Bento, and the list of forbidden modules that it tried to import."""
    watch = tmp_path_factory.mktemp("watch")
    log = watch / "imported.txt"
    log.touch()
    (watch / "sitecustomize.py").write_text(WATCH_IMPORTS.format(forbidden=FORBIDDEN, log=str(log)))
    with serving(built[1], built[2], watch) as (client, process):
        yield client, process, log


def test_the_bento_says_where_it_comes_from(built: tuple[str, Path, Path], released: tuple[Path, Release]) -> None:
    tag, folder, home = built
    assert tag == f"tiny:v3-{released[1].parcel_digest[:12]}" and folder.is_relative_to(home)
    described = yaml.safe_load((folder / "bento.yaml").read_text())
    assert described["labels"] == released[1].labels() and described["service"] == "services.forecast:Forecast"


def test_the_bento_holds_what_serves_and_nothing_else(built: tuple[str, Path, Path]) -> None:
    source = built[1] / "src"
    held = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {"release.json", "parcel/model.onnx", "parcel.sig", "services/main.py", "infra/settings.py"} <= held
    assert {"services/page.html", "models/artifact/predictor.py"} <= held
    assert [name for name in held if name.startswith("trust/") and name.endswith(".pem")]
    assert not [name for name in held if name.startswith(("flows/", "models/training/", "tests/"))]
    assert not held & {f"infra/{name}.py" for name in ("registry", "tracking", "storage_s3", "containers", "signing")}
    assert "services/bento.py" not in held
    required = (built[1] / "env/python/requirements.txt").read_text().splitlines()
    assert all("==" in line for line in required) and not [line for line in required if line.startswith(FORBIDDEN)]
    assert {line.partition("==")[0] for line in required} >= {"onnxruntime", "numpy", "msgspec", "bentoml"}


def test_a_built_bento_is_found_again_and_a_changed_one_made_new(
    model: tuple[bento.Model, bento.Beside], tmp_path: Path
) -> None:
    one, beside = model
    tag, folder = bento.build(one, tmp_path, beside)
    made = (folder / "bento.yaml").stat().st_mtime_ns
    assert bento.build(one, tmp_path, beside) == (tag, folder) and (folder / "bento.yaml").stat().st_mtime_ns == made
    (folder / "src/parcel/model.onnx").write_bytes(b"changed")
    assert bento.build(one, tmp_path, beside) == (tag, folder)
    assert (folder / "src/parcel/model.onnx").read_bytes() == (one.parcel / "model.onnx").read_bytes()
    assert bento.build(replace(one, signature=b"another"), tmp_path, beside) == (tag, folder)
    assert (folder / "src/parcel.sig").read_bytes() == b"another"
    assert not list((tmp_path / "tmp").iterdir())


def test_further_models_and_a_plan_lie_beside_the_default(
    model: tuple[bento.Model, bento.Beside], released: tuple[Path, Release], tmp_path: Path
) -> None:
    further = bento.Model(released[0], released[1].model_copy(update={"version": 2}), b"signature")
    beside = bento.Beside(models=(further,), plan=b"{}", plan_signature=b"signature")
    _, folder = bento.build(model[0], tmp_path, beside)
    for name in ("models/tiny/2/release.json", "models/tiny/2/parcel/model.onnx", "models/tiny/2/parcel.sig"):
        assert (folder / "src" / name).is_file()
    assert (folder / "src/service.json").read_bytes() == b"{}" and (folder / "src/service.sig").is_file()


def test_a_release_of_another_parcel_is_not_built(released: tuple[Path, Release], tmp_path: Path) -> None:
    wrong = bento.Model(released[0], released[1].model_copy(update={"parcel_digest": "0" * 64}))
    with pytest.raises(bento.BentoError, match="another parcel"):
        bento.build(wrong, tmp_path)
    with pytest.raises(bento.BentoError, match="another parcel"):
        bento.build(bento.Model(*released), tmp_path, bento.Beside(models=(wrong,)))


def test_it_answers_and_our_answers_win(
    server: tuple[httpx.Client, psutil.Process, Path], window: dict[str, Any], released: tuple[Path, Release]
) -> None:
    client = server[0]
    response = client.post("/model/predict", json={"data": window})
    assert response.status_code == 200 and response.json()["model_version"] == "tiny/3"
    assert response.headers["x-model-digest"] == released[1].parcel_digest
    assert response.headers["x-prediction-id"] == response.json()["prediction_id"]
    assert client.get("/readyz").status_code == 200
    assert "roadworthy_ready 1.0" in client.get("/metrics").text
    assert client.get("/docs.json").json()["info"]["title"] == "Roadworthy: tiny"
    assert "tiny/3" in client.get("/").text
    assert client.get("/nothing").json()["error"]["what"] == "nothing is here"
    assert client.get("/nothing").status_code == 404


def test_bentoml_serves_the_same_application(built: tuple[str, Path, Path], window: dict[str, Any]) -> None:
    with serving(built[1], built[2], serve=bento.bentoml_command) as (client, process):
        assert client.post("/model/predict", json={"data": window}).json()["model_version"] == "tiny/3"
        assert client.get("/healthz").status_code == 200 and client.get("/schema.json").json()["name"] == "forecast"
        workers = process.children(recursive=True)
        assert workers
        process.kill()  # of the parent alone: no worker outlives it
        assert psutil.wait_procs(workers, timeout=30)[1] == []


BAD_BODIES = [
    (b'{"data": {"time": "2024-05-31T17:45:00", "values": [[1, 2, 3]]}}', 422),
    (b'{"data": {"time": "2024-05-31T17:45:00", "values": [[NaN, 2, 3]]}}', 422),
    (b'{"data": {"time": "2024-05-31T17:45:00", "values": [], "nodes": ["nowhere"]}}', 422),
    (b'{"data": {"time": "2024-05-31T17:45:00", "values": [[1e999, 2, 3]]}}', 422),
    (b'{"data": {"values": []}}', 422),
    (b"[" * 15_000, 422),
    (b'{"data":' + b"[" * 15_000, 422),
    (b"not json", 400),
    (b"\xff\xfe", 400),
    (b"", 400),
    (b" " * 100_000, 413),
    (b" " * 5_000_000, 413),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_bad_requests_are_refused_over_http(
    server: tuple[httpx.Client, psutil.Process, Path], body: bytes, status: int
) -> None:
    connection = http.client.HTTPConnection(server[0].base_url.host, server[0].base_url.port or 80, timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("content-length", str(len(body)))
    connection.endheaders()
    if len(body) <= 8 * 20_000:  # the rest is refused by its declared length alone
        connection.send(body)
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    assert response.status == status
    assert error["expected"] and error["got"]
    connection.close()


def test_neither_torch_nor_mlflow_nor_prefect_is_imported(server: tuple[httpx.Client, psutil.Process, Path]) -> None:
    _, process, imported = server
    assert imported.read_text() == ""
    maps = "".join(Path(f"/proc/{one.pid}/maps").read_text() for one in [process, *process.children(recursive=True)])
    assert "onnxruntime" in maps and "libtorch" not in maps


def test_a_tampered_bento_lives_but_is_never_ready(
    built: tuple[str, Path, Path], window: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(built[1], tmp_path / "tampered")
    model = folder / "src" / "parcel" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with serving(folder, built[2]) as (client, _):
        assert client.get("/livez").status_code == 200
        answers = [client.get("/readyz"), client.post("/predict", json={"data": window}), client.get("/docs.json")]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert "model.onnx" in answers[0].json()["error"]["got"]


def test_sigterm_lets_a_running_request_finish_and_leaves_nothing(
    built: tuple[str, Path, Path], window: dict[str, Any]
) -> None:
    body = json.dumps({"data": window}).encode()
    with serving(built[1], built[2]) as (client, process):
        family = [process, *process.children(recursive=True)]
        connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=30)
        connection.putrequest("POST", "/predict")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders()
        connection.send(body[:10])
        client.get("/livez")  # answered after the half request was read
        process.terminate()
        wait_for(lambda: not accepts(client))
        connection.send(body[10:])
        assert connection.getresponse().status == 200
        assert psutil.wait_procs(family, timeout=bento.DRAIN_S + 10)[1] == []


def accepts(client: httpx.Client) -> bool:
    """Whether a new request is still answered."""
    try:
        return httpx.get(client.base_url.join("/livez"), timeout=0.5).status_code == 200
    except httpx.TransportError:
        return False
