"""A client of the served product: asks without a break, and notes the id of every answer.

A request counts as unanswered when no try within five seconds, a common timeout, was answered 200; as retried when a
later one was.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

PATIENCE_S = 5.0
PAUSE_S = 0.15


@dataclass(frozen=True)
class Answer:
    """One prediction; `at` is monotonic, `replica` who gave it."""

    at: float
    prediction_id: str
    replica: str


@dataclass
class Asker:
    """Clients that ask `url` with `body` until `stop`."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    answers: list[Answer] = field(default_factory=list)
    retried: list[float] = field(default_factory=list)
    unanswered: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def start(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=PATIENCE_S, trust_env=False, headers=dict(self.headers)) as client:
            while not self._over.wait(PAUSE_S):
                self._ask(client)

    def _ask(self, client: httpx.Client) -> None:
        began, num_tries = time.monotonic(), 0
        while time.monotonic() - began < PATIENCE_S:
            num_tries += 1
            answer = self._try(client)
            if answer is not None:
                self.answers.append(answer)
                self.retried += [began] if num_tries > 1 else []
                return
            time.sleep(0.1)
        self.unanswered.append(began)

    def _try(self, client: httpx.Client) -> Answer | None:
        try:
            got = client.post(f"{self.url}/predict", content=self.body)
        except httpx.TransportError as error:
            self.reasons.append(f"{type(error).__name__}: {error}")
            return None
        if got.status_code != httpx.codes.OK:
            self.reasons.append(f"{got.status_code}: {got.text[:200]}")
            return None
        served_by = got.headers.get("x-served-by", "")
        return Answer(time.monotonic(), got.headers["x-prediction-id"], served_by)
