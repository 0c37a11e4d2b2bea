"""What Prefect's server says about runs: counts by state, and what runs or waits now.

Asked over its API, without Prefect's library: an exporter that asks every few seconds needs none of its 100 MB.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from infra.servers import prefect_api
from infra.settings import Settings

TIMEOUT_S = 3.0
DAY = timedelta(days=1)
NUM_SHOWN = 12
NOW = ("Running", "Late", "Pending", "AwaitingRetry", "Retrying", "Cancelling", "Paused")


class Runs:
    """One client of the API of a home's Prefect; its methods raise httpx.HTTPError when nobody answers."""

    def __init__(self, config: Settings) -> None:
        user, _, password = (config.prefect_auth.get_secret_value() if config.prefect_auth else "").partition(":")
        auth = httpx.BasicAuth(user, password) if user else None
        self._client = httpx.Client(base_url=prefect_api(config), auth=auth, timeout=TIMEOUT_S, trust_env=False)

    def counts(self, now: datetime) -> dict[str, int]:
        """How many runs are in each state; those that ended, in the 24 hours before `now`."""
        return {name: self._count(one) for name, one in _filters(now).items()}

    def current(self) -> list[dict[str, Any]]:
        """Runs that run, or wait though it is their time: deployment, name, state and since when."""
        wanted = {"flow_runs": {"state": {"name": {"any_": NOW}}}, "limit": NUM_SHOWN, "sort": "START_TIME_DESC"}
        found = self._ask("flow_runs/filter", wanted)
        names = self._names([one["deployment_id"] for one in found if one["deployment_id"]])
        return [
            {
                "deployment": names.get(one["deployment_id"], ""),
                "name": one["name"],
                "state": one["state_name"],
                "since": one["start_time"] or one["expected_start_time"],
            }
            for one in found
        ]

    def _names(self, ids: Sequence[str]) -> dict[str, str]:
        if not ids:
            return {}
        found = self._ask("deployments/filter", {"deployments": {"id": {"any_": sorted({*ids})}}})
        return {one["id"]: one["name"] for one in found}

    def _count(self, wanted: Mapping[str, Any]) -> int:
        return int(self._ask("flow_runs/count", {"flow_runs": wanted}))

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._client.post(path, json=dict(body)).raise_for_status().json()


def _filters(now: datetime) -> dict[str, dict[str, Any]]:
    ended = {"end_time": {"after_": (now.astimezone(UTC) - DAY).isoformat()}}
    types = {"running": "RUNNING", "pending": "PENDING"}
    ends = {"completed_24h": "COMPLETED", "failed_24h": "FAILED", "crashed_24h": "CRASHED"}
    return {
        "late": {"state": {"name": {"any_": ["Late"]}}},
        **{name: {"state": {"type": {"any_": [kind]}}} for name, kind in types.items()},
        **{name: {"state": {"type": {"any_": [kind]}}, **ended} for name, kind in ends.items()},
    }
