"""A new version onto the road, step by step, and the way back.

The record and the ledger say what is meant before it is done; the router does what it was told last, whoever dies. So a
roll-out that was killed is begun again by the next one, or ended by `rollback`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.progress import Progress

from flows import console
from flows.deploy import start
from flows.deployed import FULL, check, deployments, new_attempt, replica_url, router, routing, weighted, with_replicas
from flows.idle import fill_sample, warning_of
from flows.options import UsageError
from flows.registered import registered_version
from flows.way_back import alone, back, stop_others, tell
from flows.workshop import Workshop
from infra.deployments import ROLL_OUT, Deployment, DeploymentError
from infra.refs import ModelRef
from infra.stack import StackError
from services.router_client import RouterGoneError
from services.router_config import CanaryGuard, Shadow

POLL_S, PATIENCE_S = 0.2, 15.0
Gate = Callable[[str], str]  # a replica's address → why it is refused, or ""


class RolledBackError(Exception):
    """The candidate does not go on the road; the message says why."""


@dataclass(frozen=True)
class Plan:
    """How careful to be; `gate` is asked about the candidate before any client is."""

    shadow_s: float = 0.0
    canary: tuple[float, ...] = (10.0, 50.0, 100.0)
    dwell_s: float = 30.0
    max_error_share: float = 0.01
    max_latency_ratio: float = 2.0
    max_disagreement: float = 0.25
    min_requests: int = 20
    keep_previous: bool = True
    ready_s: float = 60.0
    gate: Gate | None = None

    def guard(self, candidate: int, stable: int) -> CanaryGuard:
        """The router's part of it."""
        return CanaryGuard(
            group=f"v{candidate}", back_to=f"v{stable}", max_error_share=self.max_error_share,
            max_latency_ratio=self.max_latency_ratio, max_disagreement=self.max_disagreement,
            min_requests=self.min_requests,
        )  # fmt: skip


@dataclass
class Attempt:
    """One roll-out: the record as this command wrote it last, and what each stage showed."""

    shop: Workshop
    plan: Plan
    record: Deployment
    bar: Progress
    stages: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def candidate(self) -> int:
        return self.record.candidate or self.record.version


def roll_out(shop: Workshop, product: str, version: int | None = None, plan: Plan | None = None) -> dict[str, Any]:
    """Put a registered version that passed its gates in the place of the deployed one; back again on a breach.

    1. record and ledger, 2. candidate replicas, ready, golden request, gate, 3. shadow, 4. canary, a share at a time,
    each filled up to `min_requests` by golden requests where clients are too few, 5. live: the old replicas finish what
    they have and stay warm. Raises UsageError, PromotionRefused, DeploymentError.
    """
    deployed = deployments(shop).read(product)
    ref = registered_version(shop, product, version)
    if deployed.state == "starting":
        raise UsageError(f"{product}: its deployment was never finished; first: roadworthy deploy {product}")
    if deployed.version == ref.version:
        if deployed.state == "rolling":  # a killed attempt with another version
            deployed = back(shop, deployed, f"version {ref.version} is wanted, which is deployed")
        return _record(deployed, "unchanged", deployed.version, [], 0.0)
    began, before = time.monotonic(), deployed.version
    with console.progress() as bar:
        attempt = Attempt(shop, plan or Plan(), _begin(shop, deployed, ref), bar)
        try:
            _start_candidate(attempt, ref)
            _shadow(attempt)
            for share in attempt.plan.canary:
                _canary(attempt, share)
            _finish(attempt, before)
        except KeyboardInterrupt:
            back(shop, attempt.record, "interrupted by its caller")
            raise
        except (RolledBackError, StackError, DeploymentError, RouterGoneError) as error:
            ended = back(shop, attempt.record, str(error))
            return _record(ended, "rolled back", before, attempt.stages, time.monotonic() - began, attempt.warnings)
    return _record(attempt.record, "live", before, attempt.stages, time.monotonic() - began, attempt.warnings)


def _begin(shop: Workshop, deployed: Deployment, ref: ModelRef) -> Deployment:
    """The record of the attempt; a killed one of the same version goes on with its replicas, any other is dropped."""
    kept = tuple(one for one in deployed.replicas if one.version in (deployed.version, ref.version))
    meant = deployed.model_copy(
        update={"replicas": kept, "candidate": ref.version, "state": "rolling", "roll_out": new_attempt(), "reason": ""}
    )
    meant = weighted(with_replicas(shop, meant, ref), {deployed.version: FULL})
    with alone(shop, meant.product):
        meant = deployments(shop).begin(meant, ROLL_OUT, ref.version, f"in the place of version {deployed.version}")
        tell(shop, meant)
    router(shop, meant.product).drain({one.name for one in deployed.replicas if one not in kept})
    return meant


def _start_candidate(attempt: Attempt, ref: ModelRef) -> None:
    task = attempt.bar.add_task("candidate", total=None, note=f"version {ref.version}")
    start(attempt.shop, attempt.record, attempt.plan.ready_s)
    replicas = attempt.record.of(ref.version)
    off = max(check(attempt.shop, one) for one in replicas)
    if attempt.plan.gate and (reason := attempt.plan.gate(replica_url(replicas[0]))):
        raise RolledBackError(reason)
    attempt.bar.update(task, total=1, completed=1)
    attempt.stages.append({"stage": "golden", "difference": off})


def _shadow(attempt: Attempt) -> None:
    if attempt.plan.shadow_s > 0:
        _tell(attempt, {attempt.record.version: FULL})
        _dwell(attempt, "shadow", attempt.plan.shadow_s)


def _canary(attempt: Attempt, share: float) -> None:
    _tell(attempt, {attempt.candidate: share, attempt.record.version: FULL - share})
    _dwell(attempt, f"canary {share:g} %", attempt.plan.dwell_s)


def _tell(attempt: Attempt, weights: dict[int, float]) -> None:
    """Record and router take over these weights, unless another command has taken over. Raises RolledBackError."""
    record = weighted(attempt.record, weights)
    guard = attempt.plan.guard(attempt.candidate, record.version)
    shadow = Shadow(group=guard.group) if attempt.plan.shadow_s > 0 else None
    with alone(attempt.shop, record.product):
        _must_be_ours(attempt)
        attempt.record = deployments(attempt.shop).write(record)
        router(attempt.shop, record.product).apply(routing(record, shadow, guard))


def _dwell(attempt: Attempt, stage: str, seconds: float) -> None:
    """Watch for so long; raises RolledBackError as soon as the router took the candidate off the road."""
    client = router(attempt.shop, attempt.record.product)
    group = f"v{attempt.candidate}"
    task = attempt.bar.add_task(stage, total=max(seconds, POLL_S), note="")
    began = seen_at = time.monotonic()
    first = status = client.status() or {}
    while (spent := time.monotonic() - began) < seconds or status is first:
        time.sleep(min(POLL_S, max(0.01, seconds - spent)))
        if (found := client.status()) is not None:
            status, seen_at = found, time.monotonic()
        elif time.monotonic() - seen_at > PATIENCE_S:  # a router that was killed is back in a second
            raise RolledBackError(f"router: has not answered for {PATIENCE_S:g} s")
        attempt.bar.update(task, completed=min(spent, seconds), note=_note(status, group))
        if status.get("tripped"):
            break
        _must_be_ours(attempt)
    attempt.stages.append(_stage(stage, time.monotonic() - began, first, status, group))
    if tripped := status.get("tripped"):
        raise RolledBackError(tripped["reason"])
    _fill(attempt, attempt.stages[-1])


def _fill(attempt: Attempt, stage: dict[str, Any]) -> None:
    """Ask what clients left open of the stage's sample. Raises RolledBackError when the candidate does not stand it."""
    num_missing = attempt.plan.min_requests - stage["requests"]
    if num_missing <= 0:
        return
    record = attempt.record
    stage["own_requests"] = num_missing
    attempt.warnings.append(warning_of(stage, attempt.plan.min_requests))
    guard = attempt.plan.guard(attempt.candidate, record.version)
    candidate, stable = record.of(attempt.candidate), record.of(record.version)
    if reason := fill_sample(attempt.shop, candidate, stable, guard, num_missing):
        raise RolledBackError(reason)


def _finish(attempt: Attempt, before: int) -> None:
    """The candidate is live; what was is drained, then kept warm or stopped."""
    record, shop = attempt.record, attempt.shop
    new, old = record.of(attempt.candidate), record.of(before)
    update: dict[str, Any] = {
        "version": attempt.candidate, "candidate": None, "replicas": new, "state": "live",
        "previous": old if attempt.plan.keep_previous else (),
    }  # fmt: skip
    meant = weighted(record.model_copy(update=update), {attempt.candidate: FULL})
    with alone(shop, record.product):
        _must_be_ours(attempt)
        attempt.record = deployments(shop).begin(meant, ROLL_OUT, attempt.candidate, "live")
        router(shop, record.product).apply(routing(meant))
    stop_others(shop, attempt.record, old)


def _must_be_ours(attempt: Attempt) -> None:
    found = deployments(attempt.shop).find(attempt.record.product)
    if found is None or found.roll_out != attempt.record.roll_out:
        raise RolledBackError("another command has taken over")


def _note(status: dict[str, Any], group: str) -> str:
    seen = status.get("groups", {}).get(group, {"requests": 0, "errors": 0})
    pairs = status.get("shadow", {"compared": 0, "mean_disagreement": 0.0})
    text = f"{seen['requests']} requests, {seen['errors']} errors"
    return f"{text}, {pairs['mean_disagreement']:.2%} apart in {pairs['compared']}" if pairs["compared"] else text


def _stage(name: str, seconds: float, first: dict[str, Any], last: dict[str, Any], group: str) -> dict[str, Any]:
    """What one stage showed: of the candidate's requests, and of the pairs compared."""
    then, now = (status.get("groups", {}).get(group, {}) for status in (first, last))
    pairs = last.get("shadow", {})
    return {
        "stage": name,
        "seconds": round(seconds, 2),
        "requests": max(0, now.get("requests", 0) - then.get("requests", 0)),  # a new router counts from nothing
        "own_requests": 0,
        "errors": max(0, now.get("errors", 0) - then.get("errors", 0)),
        "p50_ms": now.get("p50_ms"),
        "p99_ms": now.get("p99_ms"),
        "compared": pairs.get("compared", 0),
        "disagreement": pairs.get("mean_disagreement", 0.0),
    }


def _record(
    deployed: Deployment, verdict: str, before: int, stages: list[dict[str, Any]], seconds: float,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    return {
        "product": deployed.product,
        "verdict": verdict,
        "version": deployed.version,
        "before": before,
        "warm": deployed.warm,
        "reason": deployed.reason,
        "warning": "; ".join(warnings),
        "stages": stages,
        "seconds": round(seconds, 2),
    }
