"""A real image of a real parcel, built by BentoML and podman, run without rights, and asked from outside."""

import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from infra.api_keys import KeyFile, issue
from infra.base_image import DEFAULT, base_image, debian_packages
from infra.containers import USER_ID, Engine, Limits, Mount, Port, Run, finish, image_id
from infra.containers_conf import volatile_folder
from infra.image_config import settle
from infra.manifests import write_manifests
from infra.ports import free_port
from infra.sbom import ModelFacts, bill
from infra.signing import SigningKey, rotate_signing_key, sign_folder, signing_key
from services import bento, image
from services.inference_pb2 import ModelInferRequest, ModelInferResponse
from services.schemas import Release

pytestmark = pytest.mark.containers

IMAGE, MAX_BYTES = "localhost/roadworthy/tiny:v3", 350_000_000
FACTS = ModelFacts("tiny", "3", "ab" * 32, "forecast", "linear", "linear", "d", "x", "y", "tiny")


class Built(NamedTuple):
    """An image in an engine of its own, the Bento it was made of, and who signed."""

    engine: Engine
    kit: image.Kit
    bento: Path
    key: SigningKey
    sbom: bytes


@pytest.fixture(scope="module")
def built(released: tuple[Path, Release], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image; its engine's storage is gone afterwards."""
    home = tmp_path_factory.mktemp("home")
    engine, key = Engine.find(home), signing_key(home)
    signature = sign_folder(released[0], home / "parcel.sig", key).read_bytes()
    (home / "release.json").write_bytes(bento.release_bytes(released[1]))
    release_signature = sign_folder(home / "release.json", home / "release.sig", key).read_bytes()
    model = bento.Model(released[0], released[1], signature, release_signature)
    tag, folder = bento.build(model, home / "bentoml", bento.Beside(trust={key.id[:16]: key.public}))
    kit = image.Kit(engine, base_image(engine, DEFAULT, home / "cache", print), home / "cache")
    python = dict(pin.split("==") for pin in bento.pinned(bento.SERVED))
    sbom = bill(FACTS, python, debian_packages(engine, kit.base), image.SOURCE_EPOCH)
    image.build_image(kit, tag, folder, IMAGE, {"roadworthy.product": "tiny"}, sbom)
    yield Built(engine, kit, folder, key, sbom)
    for name in engine.containers():
        engine.remove(name)
    subprocess.run(["umount", "--lazy", engine.home / "containers" / "overlay"], capture_output=True)
    for folder in (volatile_folder(engine.home), engine.home / "containers", engine.home / "cache"):
        shutil.rmtree(folder, ignore_errors=True)


class Server(NamedTuple):
    """A running container."""

    client: httpx.Client
    grpc_port: int
    name: str
    process: subprocess.Popen[bytes]
    headers: dict[str, str]


@contextmanager
def running(built: Built, folder: Path, name: str = IMAGE, *trusted: bytes) -> Iterator[Server]:
    """A container of the image, once `/livez` answers; `folder` holds the keys that it is given."""
    record, key = issue("test", ("predict", "read"), datetime.now(UTC))
    (folder / "keys").mkdir()
    KeyFile(folder / "keys" / "api_keys.json").add(record)
    (folder / "trust").mkdir()
    for number, public_key in enumerate(trusted or (built.key.public,)):
        (folder / "trust" / f"{number}.pem").write_bytes(public_key)
    for path in (folder / "keys", folder / "keys" / "api_keys.json"):
        shutil.chown(path, USER_ID, USER_ID)
    http_port, grpc_port = free_port(), free_port()
    run = Run(
        name, f"tiny-{http_port}", [Port(3000, http_port), Port(3001, grpc_port)],
        [Mount(folder / "keys", "/run/keys"), Mount(folder / "trust", "/run/trust")],
        {"ROADWORTHY_SERVE_KEYS_FILE": "/run/keys/api_keys.json", "ROADWORTHY_SERVE_TRUSTED_KEYS": "/run/trust"},
        Limits(),
    )  # fmt: skip
    process = subprocess.Popen(built.engine.run_command(run), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    headers = {"x-api-key": key}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as client:
            until_alive(client, process)
            yield Server(client, grpc_port, run.name, process, headers)
    finally:
        process.terminate()
        process.communicate(timeout=60)
        built.engine.remove(run.name)


def until_alive(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    """Ask until the service answers or its container has ended."""
    while True:
        try:
            assert client.get("/livez").status_code == 200
            return
        except httpx.TransportError:
            if process.poll() is not None:
                pytest.fail(f"ended with {process.returncode}: {process.communicate()[0].decode()[-3000:]}")


@pytest.fixture(scope="module")
def server(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The image, running."""
    with running(built, tmp_path_factory.mktemp("server")) as one:
        yield one


def test_it_can_be_inspected_from_outside(built: Built) -> None:
    record = built.engine.inspect(IMAGE, "image")
    config = record["Config"]
    assert config["User"] == f"{USER_ID}:{USER_ID}" and config["Labels"]["roadworthy.product"] == "tiny"
    assert config["Entrypoint"][-4:] == ["-m", "services.main", "--folder", "/app/src"]
    assert set(config["ExposedPorts"]) == {"3000/tcp", "3001/tcp"} and config["StopSignal"] == "SIGTERM"
    assert "healthcheck.py" in record["Healthcheck"]["Test"][-1]
    assert record["Size"] <= MAX_BYTES
    assert len(record["RootFS"]["Layers"]) == 5  # base, packages, code, weights, provenance


def in_image(built: Built, *command: str) -> str:
    options = ["--rm", "--network=none", "--no-healthcheck", f"--entrypoint={command[0]}"]
    return built.engine.ask("run", *options, IMAGE, *command[1:])


def test_it_holds_what_serves_and_nothing_that_builds(built: Built) -> None:
    listed = in_image(built, "find", "/app", "/usr/local", "/usr/bin", "-xdev", "-type", "f").splitlines()
    names = {Path(line).name for line in listed}
    assert not names & {"pip", "pip3", "uv", "gcc", "cc", "make", "apt-get", "perl", "bentoml"}
    assert {"/app/src/services/main.py", "/app/src/parcel/model.onnx", "/app/src/parcel.sig"} <= set(listed)
    assert not [line for line in listed if "/flows/" in line or "/torch/" in line or "/mlflow/" in line]
    assert (
        in_image(built, "find", "/app", "(", "-perm", "-o+w", "-o", "-uid", str(USER_ID), ")", "!", "-type", "l") == ""
    )


def test_the_weights_are_a_layer_of_their_own(built: Built, tmp_path: Path) -> None:
    """The image of other weights differs from this one in the layers of weights and provenance alone."""
    ours = built.engine.inspect(IMAGE, "image")["RootFS"]["Layers"]
    other = shutil.copytree(built.bento, tmp_path / "bento")
    (other / "src/parcel/model.onnx").write_bytes(b"other weights")
    layers = second_build(built, other, tmp_path, "localhost/roadworthy/other:v1")["RootFS"]["Layers"]
    assert [one == two for one, two in zip(ours, layers, strict=True)] == [True, True, True, False, True]


def test_building_again_from_nothing_gives_the_same_digest(built: Built, tmp_path: Path) -> None:
    again = second_build(built, built.bento, tmp_path, "localhost/roadworthy/again:v3", "--no-cache")
    assert again["Id"] == image_id(built.engine, IMAGE).removeprefix("sha256:")


def second_build(built: Built, folder: Path, tmp_path: Path, name: str, *options: str) -> dict[str, Any]:
    """Our own build on top of BentoML's; the engine's record of it."""
    bentos = next(one for one in built.engine.images() if "/roadworthy-bento/" in one)
    context = image.stage_image(folder, tmp_path / "context", built.sbom)
    arguments = [f"--build-arg=BASE_IMAGE={built.kit.base}", f"--build-arg=BENTO_IMAGE={bentos}"]
    labels = ["--label=roadworthy.product=tiny"]
    stamp = ["--network=none", f"--timestamp={image.SOURCE_EPOCH}"]
    built.engine.build(context, name, *arguments, *labels, *stamp, *options)
    settle(built.engine, name, tmp_path / "scratch")
    return built.engine.inspect(name, "image")


def test_the_bill_of_materials_is_inside_and_valid(built: Built) -> None:
    text = in_image(built, "cat", f"/{image.SBOM_FILE}")
    assert text.encode().strip() == built.sbom.strip()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    installed = in_image(built, "python", "-I", "-c", "from importlib.metadata import distributions as d; "
                         "print(*sorted(f'pkg:pypi/{one.name.lower()}' for one in d()))").replace("_", "-")  # fmt: skip
    named = {one["purl"].partition("@")[0] for one in json.loads(text)["components"] if "purl" in one}
    assert set(installed.split()) <= named


def golden(released: tuple[Path, Release]) -> tuple[dict[str, Any], list[list[float]]]:
    record = json.loads((released[0] / "golden.json").read_text())
    return record["request"], record["predictions"]


def test_it_answers_rest_and_grpc_alike(server: Server, released: tuple[Path, Release]) -> None:
    request, expected = golden(released)
    assert server.client.get("/readyz").status_code == 200
    assert server.client.post("/predict", json=request).status_code == 401
    answer = server.client.post("/predict", json=request, headers=server.headers)
    assert answer.status_code == 200 and np.allclose(answer.json()["predictions"], expected, atol=1e-4)
    assert answer.headers["x-model-digest"] == released[1].parcel_digest
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answered = ModelInferResponse.FromString(ask(infer_request(request), metadata=tuple(server.headers.items())))
    forecast = np.frombuffer(answered.raw_output_contents[0], np.float32)
    assert answered.outputs[0].name == "forecast"
    assert np.array_equal(forecast, np.array(answer.json()["predictions"], np.float32).ravel())


def infer_request(request: dict[str, Any]) -> bytes:
    """The golden request as gRPC takes it: missing values are NaN."""
    x = np.array(request["data"]["values"], np.float32)[None, :, :, None]
    time = request["data"]["time"].encode()
    message = ModelInferRequest(model_name="tiny")
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    message.inputs.add(name="time", datatype="BYTES", shape=[1])
    message.raw_input_contents.extend([x.tobytes(), len(time).to_bytes(4, "little") + time])
    return bytes(message.SerializeToString())


def test_it_has_no_rights_and_can_write_nothing(built: Built, server: Server) -> None:
    status = built.engine.ask("exec", server.name, "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1" and int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert set(facts["Uid"].split()) == {str(USER_ID)}
    writes = "for f in / /app /app/src /app/src/parcel /run/keys /var; do touch $f/x 2>/dev/null && echo $f; done; true"
    assert built.engine.ask("exec", server.name, "sh", "-c", writes) == ""
    built.engine.ask("exec", server.name, "/app/.venv/bin/python", "-I", "/app/healthcheck.py")


def derived(built: Built, tmp_path: Path, name: str, change: Callable[[Path], None]) -> str:
    """The image with another parcel on top, as somebody with a registry's password could push it."""
    shutil.copytree(built.bento / "src" / "parcel", tmp_path / "context" / "parcel")
    change(tmp_path / "context" / "parcel")
    lines = [f"FROM {IMAGE}", "COPY parcel /app/src/parcel"]
    (tmp_path / "context" / "Containerfile").write_text("\n".join(lines) + "\n")
    built.engine.build(tmp_path / "context", name)
    return name


def test_a_tampered_parcel_is_never_served(built: Built, tmp_path: Path, released: tuple[Path, Release]) -> None:
    def tamper(parcel: Path) -> None:
        model = (parcel / "model.onnx").read_bytes()
        (parcel / "model.onnx").write_bytes(model[:-1] + b"!")

    name = derived(built, tmp_path, "localhost/roadworthy/tampered:v3", tamper)
    with running(built, tmp_path, name) as server:
        answer = server.client.post("/predict", json=golden(released)[0], headers=server.headers)
        assert (server.client.get("/readyz").status_code, answer.status_code) == (503, 503)


def test_another_signer_is_not_believed(built: Built, tmp_path: Path) -> None:
    stranger = rotate_signing_key(tmp_path / "stranger").public
    with running(built, tmp_path, IMAGE, stranger) as server:  # the key inside the image is not asked
        assert server.client.get("/readyz").status_code == 503


def test_sigterm_drains_and_ends_with_0(built: Built, tmp_path: Path, released: tuple[Path, Release]) -> None:
    body = json.dumps(golden(released)[0]).encode()
    with running(built, tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.client.base_url.port or 80, timeout=30)
        connection.putrequest("POST", "/predict")
        for header, value in {"content-length": str(len(body)), **server.headers}.items():
            connection.putheader(header, value)
        connection.endheaders(body[:10])
        server.client.get("/livez")  # answered after the half request was read
        server.process.terminate()
        connection.send(body[10:])
        assert connection.getresponse().status == 200
        assert server.process.wait(timeout=60) == 0
    assert server.name not in built.engine.containers()


def test_the_compose_file_starts_it_and_takes_it_down(built: Built, tmp_path: Path) -> None:
    digest = f"localhost/roadworthy/tiny@sha256:{'a' * 64}"
    write_manifests(tmp_path, "tiny", 3, digest, "b" * 64, {"k.pem": built.key.public}, IMAGE)
    (tmp_path / "access").mkdir()
    shutil.chown(tmp_path / "access", USER_ID, USER_ID)
    ports = [f"HTTP_PORT={free_port()}", f"GRPC_PORT={free_port()}"]
    compose = [*built.engine.prefix(), *ports, str(Path(sys.executable).with_name("podman-compose")), "-f"]
    compose.append(str(tmp_path / "compose.yaml"))
    up = subprocess.Popen([*compose, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{ports[0].partition('=')[2]}") as client:
            until_alive(client, up)
            assert client.get("/readyz").status_code == 200
            assert client.post("/predict", json={}).status_code == 401
    finally:
        finish([*compose, "down"], timeout_s=60)
        up.communicate(timeout=60)
    assert not [name for name in built.engine.containers() if name.startswith("tiny_serve")]
