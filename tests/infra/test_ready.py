"""A server is waited for, a dead one is not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra.ready import wait_for


class Answer(BaseHTTPRequestHandler):
    """503 twice, then 200, as a server that starts."""

    num_asked = 0

    def do_GET(self) -> None:
        type(self).num_asked += 1
        self.send_response(200 if self.num_asked > 2 else 503)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Answer.num_asked = 0
    with HTTPServer(("127.0.0.1", 0), Answer) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


def test_a_server_is_waited_for_until_it_is_ready(server: str) -> None:
    assert wait_for(server, 20)
    assert Answer.num_asked == 3


def test_nobody_waits_for_a_server_that_died(server: str) -> None:
    assert not wait_for(server, 20, lambda: Answer.num_asked == 0)
    assert Answer.num_asked == 1


def test_waiting_ends_where_nobody_answers() -> None:
    assert not wait_for("http://127.0.0.1:9", 0.3)
