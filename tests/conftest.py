"""A real S3 server, SeaweedFS, on free loopback ports, and stores to test with."""

import gc
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.atomic import write_atomic
from infra.ports import free_ports
from infra.settings import TELEMETRY_OFF, Settings

# This process too is quiet and leaves nothing in the user's own folders; set before another conftest imports a library.
_HOME = tempfile.mkdtemp(prefix="roadworthy-tests-")
os.environ.update({**TELEMETRY_OFF, "PREFECT_HOME": f"{_HOME}/prefect", "MPLCONFIGDIR": f"{_HOME}/matplotlib"})
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices here are small, and idle threads spin
gc.disable()  # until every library is imported: a quarter of the start, and of many tests, was counting their objects


def pytest_collection_finish() -> None:
    """What is imported by now stays; only what tests make is searched for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


SERVERS = ("master", "volume", "filer", "s3")
BUCKET = "roadworthy-test"


def _command(folder: Path, ports: list[int]) -> list[str]:
    names = [f"-{server}.port{suffix}" for server in SERVERS for suffix in ("", ".grpc")]
    return [
        str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini", f"-dir={folder / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        *(f"{name}={port}" for name, port in zip(names, ports, strict=True)),
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
    ]  # fmt: skip


def _wait_until_ready(config: Settings, secret: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    assert config.s3_access_key is not None
    client = boto3.client(
        "s3", endpoint_url=config.s3_endpoint, region_name=config.s3_region,
        aws_access_key_id=config.s3_access_key.get_secret_value(), aws_secret_access_key=secret,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        try:
            if BUCKET not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
            assert client.get_object(Bucket=BUCKET, Key="ready")["Body"].read() == b"yes"
            return
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS did not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings whose store is the bucket of a running server; `s3_settings` are those of one test."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    (folder / "data").mkdir()
    access, secret = f"AK{secrets.token_hex(8)}", secrets.token_urlsafe(24)
    ports = free_ports(2 * len(SERVERS))
    config = Settings(
        home=folder / "home", store=f"s3://{BUCKET}", s3_endpoint=f"http://127.0.0.1:{ports[-2]}",
        s3_access_key=SecretStr(access), s3_secret_key=SecretStr(secret),
    )  # fmt: skip
    log = write_atomic(folder / "server.log", b"")
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "HOME": str(folder)}
    with log.open("wb") as output:
        server = subprocess.Popen(
            _command(folder, ports), env=environment, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
        try:
            _wait_until_ready(config, secret, server, log)
            yield config
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def s3_settings(seaweedfs: Settings) -> Settings:
    """Settings whose store is an empty prefix of the running server's bucket."""
    return seaweedfs.model_copy(update={"store": f"s3://{BUCKET}/{secrets.token_hex(8)}"})


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.services)])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty store: once a folder, once on the real S3 server."""
    if request.param == "s3":
        on_server: Settings = request.getfixturevalue("s3_settings")
        return on_server
    return Settings(home=tmp_path / "home", store="")


@pytest.fixture
def run_killed() -> Callable[[str, Path, Settings], None]:
    """Runs a script that must end by killing itself; its settings come through the environment."""

    def run(script: str, argument: Path, config: Settings) -> None:
        given = {name: value for name, value in config.model_dump().items() if value is not None}
        environment = {
            f"ROADWORTHY_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
        }
        command = [sys.executable, "-c", script, str(argument)]
        here = Path(__file__).parents[1]
        done = subprocess.run(command, env={**os.environ, **environment}, cwd=here, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    return run
