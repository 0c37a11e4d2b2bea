"""Asks a candidate golden requests, in the place of clients who did not come.

A canary that nobody asked has shown nothing, and at night nobody may ask for hours. What clients leave open of a sample
is filled with requests of our own: no client sees them, and nothing captures them.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import httpx

from flows.deployed import replica_url
from flows.live import parcel_folder
from flows.local_key import key_header
from flows.workshop import Workshop
from infra.deployments import Replica
from models.artifact.manifest import GOLDEN_FILE
from services.copies import MARK
from services.router_config import CanaryGuard
from services.router_diff import disagreement

TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """What one request came to; `status` 0 without an answer."""

    status: int
    seconds: float
    body: bytes

    @property
    def failed(self) -> bool:
        """Whether the replica is to blame; a refusal is an answer."""
        return self.status == 0 or self.status >= 500


def fill_sample(
    shop: Workshop, candidate: Sequence[Replica], stable: Sequence[Replica], guard: CanaryGuard, num_requests: int
) -> str:
    """Ask so many requests of the candidate's replicas in turn, and each of the stable ones too; why it must go, or "".

    The requests are the golden ones of both versions. The limits are the guard's, with medians for its p99: of so few
    requests a p99 is the slowest one.
    """
    folders = [parcel_folder(shop, replicas[0].digest) for replicas in (candidate, stable)]
    bodies = [json.dumps(json.loads((one / GOLDEN_FILE).read_bytes())["request"]).encode() for one in folders]
    headers = {"content-type": "application/json", MARK: "1"}
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers=headers) as client:
        turns = islice(zip(cycle(bodies), cycle(stable), cycle(candidate), strict=False), num_requests)
        pairs = [tuple(_ask(shop, client, one, body) for one in (first, second)) for body, first, second in turns]
    return _judged([then for then, _ in pairs], [now for _, now in pairs], guard)


def _ask(shop: Workshop, client: httpx.Client, replica: Replica, body: bytes) -> Answer:
    url = replica_url(replica)
    began = time.monotonic()
    try:
        answer = client.post(f"{url}/predict", content=body, headers=dict(key_header(shop, url)))
    except httpx.TransportError:
        return Answer(0, time.monotonic() - began, b"")
    return Answer(answer.status_code, time.monotonic() - began, answer.content)


def _judged(stable: Sequence[Answer], candidate: Sequence[Answer], guard: CanaryGuard) -> str:
    """As the router's guard judges clients' requests: errors, latency, disagreement."""
    num_errors = sum(one.failed for one in candidate)
    if num_errors > max(1.0, guard.max_error_share * len(candidate)) and num_errors > sum(one.failed for one in stable):
        return f"errors: {num_errors} of {len(candidate)} golden requests to {guard.group} failed"
    typical, other = (1000 * statistics.median(one.seconds for one in asked) for asked in (candidate, stable))
    if typical > (allowed := guard.max_latency_ratio * other + guard.latency_slack_ms):
        return f"latency: {guard.group} takes {typical:.1f} ms for a golden request, allowed {allowed:.1f} ms"
    offs = [
        disagreement(one.status, one.body, 0, other.status, other.body, 0)
        for one, other in zip(stable, candidate, strict=True)
        if not (one.failed or other.failed)
    ]
    mean = statistics.fmean(offs) if offs else 0.0
    if mean > guard.max_disagreement:
        share = f"{mean:.1%} of scale, allowed {guard.max_disagreement:.1%}"
        return f"disagreement: the answers of {guard.group} to {len(offs)} golden requests differ by {share}"
    return ""


def warning_of(stage: Mapping[str, Any], num_wanted: int) -> str:
    """What to say of a stage that too few clients asked; `own_requests` is how many we asked."""
    return (
        f"{stage['stage']}: {stage['requests']} requests came in {stage['seconds']:g} s, {num_wanted} make a sample; "
        f"{stage['own_requests']} golden requests of our own stand for the others"
    )
