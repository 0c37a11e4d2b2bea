"""Says how a lifecycle ended: one JSON object, the same for people, scripts and Prefect."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Outcome(BaseModel):
    """The verdict on one product, with everything that it rests on.

    `metrics`, `bytes` and `latency_ms` are by candidate, judged on the test split; `seconds` is by step. `mae` and
    `rmse` are at the judged horizon step (`convention` says which), `mae_pooled` over all steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    recipe: str
    data: str
    data_digest: str
    verdict: Literal["promoted", "refused", "judged", "awaiting approval"]
    promoted: bool
    candidate: str
    sentence: str
    reasons: list[str]
    gates: list[dict[str, Any]]
    convention: str
    metrics: dict[str, dict[str, float]]
    bytes: dict[str, int]
    latency_ms: dict[str, dict[str, float]]
    rows_per_second: dict[str, float]
    model_version: int | None = None
    model_digest: str | None = None
    run_id: str | None = None
    bento: str | None = None
    bento_path: str | None = None
    judged_against: str | None = None
    protocol: str = "default"
    closed_loop: dict[str, Any] | None = None
    seconds: dict[str, float] = {}
