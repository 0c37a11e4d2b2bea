"""`prefect.yaml` itself, and the dates of its schedules over both changes of a zone."""

import ast
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import anyio
import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas import schedules as server

from flows import automations, retention, schedules, schedules_apply
from flows.catch_up import last_due
from models import catalog

TEXT = schedules.DEPLOYMENTS.read_text()
ENTRIES = {f"{one['flow_name']}/{one['name']}": one for one in yaml.safe_load(TEXT)["deployments"]}
CHANGES = [
    ("Europe/Berlin", date(2027, 3, 28)), ("Europe/Berlin", date(2027, 10, 31)),
    ("America/New_York", date(2027, 3, 14)), ("America/New_York", date(2027, 11, 7)),
]  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_prefect_yaml_names_what_exists_and_no_machine(name: str) -> None:
    assert str(schedules.SOURCE) not in TEXT
    entry = ENTRIES[name]
    path, _, function = entry["entrypoint"].partition(":")
    tree = ast.parse((schedules.SOURCE / path).read_text())
    (flow,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    given = entry.get("parameters", {})
    assert set(given) <= {argument.arg for argument in flow.args.args}
    assert given.get("recipe", "forecast/stid") in catalog.recipe_names()
    assert given.get("data", "freeway") in catalog.datasets()
    assert entry["work_pool"]["name"] == schedules.POOL
    assert entry["work_pool"].get("work_queue_name", "default") in schedules_apply.QUEUES
    assert entry["concurrency_limit"]["limit"] == 1
    assert [schedules_apply._schedule(name, one) for one in entry.get("schedules", ())] or "services" in entry["tags"]


def test_what_the_code_names_is_in_the_file() -> None:
    assert set(retention.ROUTINE_DAYS) | {automations.RETRAIN} <= set(ENTRIES)


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@pytest.mark.parametrize("cron", ["30 1 * * *", "30 2 * * *", "0 3 * * *"])
def test_a_daily_schedule_runs_once_a_day_over_a_change_of_the_clock(zone: str, change: date, cron: str) -> None:
    """Whenever the scheduler looks: it plans the next runs anew, here every 50 minutes of four days."""
    schedule = server.CronSchedule(cron=cron, timezone=zone)
    midnight = datetime.combine(change, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC)

    async def planned() -> set[datetime]:
        looks = [midnight + timedelta(minutes=50 * look) for look in range(-58, 58)]
        return {date.astimezone(UTC) for look in looks for date in await schedule.get_dates(3, look)}

    days = [one.astimezone(ZoneInfo(zone)).date() for one in sorted(anyio.run(planned))]
    wanted = [change + timedelta(days=offset) for offset in range(-1, 4)]
    assert [day for day in days if day in wanted] == wanted


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_the_last_due_time_is_right_over_a_change_of_the_clock(zone: str, change: date) -> None:
    schedule = CronSchedule(cron="0 4 * * *", timezone=zone)
    noon = datetime(change.year, change.month, change.day, 12, tzinfo=ZoneInfo(zone))
    due = last_due(schedule, noon - timedelta(days=20), noon)
    assert due is not None
    assert due.astimezone(ZoneInfo(zone)) == noon.replace(hour=4)
    assert last_due(schedule, noon - timedelta(hours=7), noon) is None
    assert last_due(CronSchedule(cron="* * * * *"), noon - timedelta(days=300), noon) == noon


def test_a_schedule_of_several_runs_a_day_needs_utc() -> None:
    with pytest.raises(schedules_apply.ScheduleError, match="hour that comes twice"):
        schedules_apply._schedule("hourly", {"cron": "0 * * * *", "timezone": "Europe/Berlin"})
