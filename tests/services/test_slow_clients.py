"""A served process and the clients that nobody wants: slow, huge, many, guessing. It serves the others meanwhile."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from infra.api_keys import KeyFile, KeyRecord, issue
from infra.ledger import Ledger
from tests.services.conftest import make_parcel, make_release, make_window

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
SETTINGS = {"SIGNATURES": "off", "HEADER_TIMEOUT_S": "1", "BODY_TIMEOUT_S": "1", "MAX_CONNECTIONS": "60"}
SECRET_OF_A_STRANGER = f"rw_0badc0de_{'S3cr3t' * 5}AA"


@dataclass
class House:
    """A running service with its keys, and everything that it wrote."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"
    file: KeyFile
    record: KeyRecord
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def predict(self, key: str = "", **headers: str) -> httpx.Response:
        """One ordinary request."""
        said = {"x-api-key": key or self.key, **headers}
        return httpx.post(f"{self.url}/predict", json={"data": make_window()}, headers=said, timeout=60)

    def connect(self) -> socket.socket:
        """A connection of which nothing is expected but an end."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(60)
        return connection

    def say(self, *parts: bytes) -> bytes:
        """What comes back until the end, for raw bytes."""
        with self.connect() as connection:
            with suppress(ConnectionError):  # it may have heard enough
                for part in parts:
                    connection.sendall(part)
            return to_the_end(connection)


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes; a reset is an end too."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    release = make_release(make_parcel(folder / "served" / "parcel", "forecast"), max_body_bytes=20_000)
    (folder / "served" / "release.json").write_text(release.model_dump_json())
    file = KeyFile(folder / "keys" / "api_keys.json")
    record, key = issue("signals", ["predict", "read"], datetime.now(UTC))
    file.add(record)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = SETTINGS | {"KEYS_FILE": str(file.path), "AUDIT_FILE": str(folder / "audit" / "tiny.jsonl")}
    environment = {**os.environ, **{f"ROADWORTHY_SERVE_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "services.main", "--folder", str(folder / "served"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    built = House(folder, port, process, file, record, key)
    try:
        _wait_until_ready(built)
        yield built
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(house: House) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert httpx.get(f"{house.url}/readyz").is_success
            return
        except httpx.TransportError:
            assert house.process.poll() is None and time.monotonic() < deadline, (house.folder / "log").read_text()
            time.sleep(0.02)


def test_slow_heads_and_bodies_are_ended_and_others_are_served(house: House) -> None:
    before = psutil.Process(house.process.pid).num_fds()
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\nx-api-key: " + house.key.encode() + b"\r\n"
    starts = {
        "nothing": b"",
        "part of a head": head,
        "part of a body": head + b"content-length: 1000\r\n\r\n{",
        "part of a chunk": head + b"transfer-encoding: chunked\r\n\r\n5\r\nab",
        "a body behind a refusal": b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{",
    }
    with ExitStack() as stack:
        slow = [(name, stack.enter_context(house.connect()), start) for name, start in starts.items() for _ in range(9)]
        for _, connection, start in slow:
            connection.sendall(start)
        assert [house.predict().status_code for _ in range(20)] == [200] * 20
        ends = [(name, to_the_end(connection)) for name, connection, _ in slow]
    for name, end in ends:
        assert {"nothing": end == b"", "a body behind a refusal": b" 401 " in end}.get(name, b" 408 " in end), (
            name,
            end,
        )
    assert house.predict().status_code == 200
    assert psutil.Process(house.process.pid).num_fds() <= before + 2


def test_huge_and_broken_heads_are_answered_and_ended(house: House) -> None:
    key = b"x-api-key: " + house.key.encode() + b"\r\n"
    for large in (
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000,
        b"GET /" + b"a" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 12_000,
    ):
        assert b" 431 " in house.say(large)
    house.say(b"GET / HTTP/1.1\r\n", *(b"x%d: y\r\n" % number for number in range(100_000)))  # hears no end
    for broken in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, b"\x00" * 1000, b"GET\r\n\r\n",
        b"\r\n" * 40_000,
        b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nho\x00st: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\n" + key + b"content-length: 99999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\n" + key + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\n" + key + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /docs.json HTTP/1.1\r\nhost: a\r\n\r\n",
    ):  # fmt: skip
        answer = house.say(broken)
        assert b" 200 " not in answer and b"Traceback" not in answer, broken[:60]
    assert house.predict().status_code == 200


def test_huge_bodies_are_never_held(house: House) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\nx-api-key: " + house.key.encode() + b"\r\n"
    before = psutil.Process(house.process.pid).memory_info().rss
    assert b" 413 " in house.say(head + b"content-length: 21000\r\nconnection: close\r\n\r\n", b"x" * 21_000)
    assert b" 413 " in house.say(head + b"content-length: 1000000000\r\n\r\n")
    with house.connect() as connection:
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    assert psutil.Process(house.process.pid).memory_info().rss - before < 20_000_000
    assert house.predict().status_code == 200


def test_more_connections_than_allowed_are_told_so_and_leave_nothing(house: House) -> None:
    before = psutil.Process(house.process.pid).num_fds()
    with ExitStack() as stack:
        held = [stack.enter_context(house.connect()) for _ in range(100)]
        assert b" 503 " in house.say(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        for connection in held:
            to_the_end(connection)
    assert house.predict().status_code == 200
    assert psutil.Process(house.process.pid).num_fds() <= before + 2


def test_names_and_headers_from_a_raw_socket_reach_nothing(house: House) -> None:
    for path in (
        b"/models/%00/predict",
        b"/v2/models/..%2f..%2f/infer",
        b"/../../etc/passwd",
        b"//etc/passwd",
        b"/%2e%2e/%2e%2e/etc",
    ):
        for method in (b"GET", b"POST"):
            answer = house.say(
                method + b" " + path + b" HTTP/1.1\r\nhost: a\r\nx-tenant: ../..\r\nconnection: close\r\n"
                b"x-api-key: " + house.key.encode() + b"\r\ncontent-length: 0\r\n\r\n"
            )
            assert b" 404 " in answer or b" 405 " in answer, (path, answer)
            assert b"root:" not in answer and answer.count(b"HTTP/1.1") == 1


def test_a_revoked_key_is_refused_by_the_running_process(house: House) -> None:
    record, key = issue("leaving", ["predict"], datetime.now(UTC))
    house.file.add(record)
    assert house.predict(key).status_code == 200
    house.file.revoke(record.id, datetime.now(UTC))
    assert house.predict(key).status_code == 401 and house.predict().status_code == 200


def test_guessing_is_slowed_and_nothing_secret_is_ever_written(house: House) -> None:
    guesses = [f"rw_{number:08x}_{'Gue55' * 6}AA" for number in range(11)] + [SECRET_OF_A_STRANGER]
    statuses = [house.predict(guess).status_code for guess in guesses]
    assert statuses.count(401) == 10 and statuses[10:] == [429, 429]
    assert house.predict().status_code == 200  # a known key of the same address
    assert house.predict("", authorization=f"Bearer {SECRET_OF_A_STRANGER}").status_code == 429
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(timeout=60) == 0
    trail = Ledger(house.folder / "audit" / "tiny.jsonl")
    assert trail.verify() >= 3
    whys = {str(entry.details["why"]) for entry in trail.entries()}
    assert {"the key is not accepted: unknown", "the key is not accepted: revoked", "a key is needed: none"} <= whys
    written = b"".join(path.read_bytes() for path in house.folder.rglob("*") if path.is_file())
    for secret in (house.key, SECRET_OF_A_STRANGER, *guesses):
        assert secret.split("_", 2)[2].encode() not in written
    assert b"Traceback" not in (house.folder / "log").read_bytes()
