"""What Prefect does by itself: crashed runs go on, lost ones are found, alarms retrain.

Installed by the worker of a services home before it takes work, and only there: automations on SQLite lock it up.
Each is named `roadworthy: …`; the same again changes nothing, one that somebody disabled stays disabled, one that is
not wanted any more goes. A run is resumed `NUM_RETRIES` times; it finds its finished steps. What no event tells
(a run that hangs, one that stays PENDING) `flows/watch_runs.py` finds.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from flows.schedules_apply import POOL

PREFIX = "roadworthy: "
NUM_RETRIES = 3
HEARTBEAT_S = 30
LOST_AFTER = timedelta(seconds=90)
RETRAINING = "roadworthy.retraining.needed"  # emitted by the monitor; payload: product, reason
RETRAIN = "retrain/on-drift"
TOO_OFTEN = f"crashed {NUM_RETRIES + 1} times; its last crash and its log say why"


def wanted(retrain: UUID | None) -> list[AutomationCore]:
    """Every automation; retrain: the deployment that an alarm of the monitor starts, where there is one."""
    return [_resume(), _give_up(), _lost(), *([_retrain(retrain)] if retrain else [])]


def install(client: SyncPrefectClient) -> list[str]:
    """Bring the server to `wanted`; returns the names."""
    try:
        retrain = client.read_deployment_by_name(RETRAIN).id
    except ObjectNotFound:
        retrain = None
    known = {one.name: one for one in client.read_automations() if one.name.startswith(PREFIX)}
    automations = wanted(retrain)
    for one in automations:
        _put(client, one, known.pop(one.name, None))
    for old in known.values():
        client.delete_automation(old.id)
    return [one.name for one in automations]


def _put(client: SyncPrefectClient, one: AutomationCore, known: Automation | None) -> None:
    if known is None:
        client.create_automation(one)
    elif _said(known) != _said(one):
        client.update_automation(known.id, one.model_copy(update={"enabled": known.enabled}))


def _said(one: AutomationCore) -> object:
    kept = {"name", "description", "trigger", "actions"}
    return AutomationCore.model_validate(one.model_dump()).model_dump(mode="json", include=kept)


def _of_our_pool() -> ResourceSpecification:
    return ResourceSpecification.model_validate({"prefect.resource.role": "work-pool", "prefect.resource.name": POOL})


def _crashed(run_counts: Sequence[int]) -> EventTrigger:
    """A run of our pool crashed, having been started so many times."""
    match = {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": [str(count) for count in run_counts]}
    return EventTrigger(
        expect={"prefect.flow-run.Crashed"},
        match=ResourceSpecification.model_validate(match),
        match_related=_of_our_pool(),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _resume() -> AutomationCore:
    action = ChangeFlowRunState(
        name="AwaitingRetry", state=StateType.SCHEDULED, message="it crashed and goes on where it was", force=True
    )
    return AutomationCore(
        name=f"{PREFIX}a crashed run goes on",
        description=f"At most {NUM_RETRIES} times; it finds the steps that it had finished.",
        trigger=_crashed(range(NUM_RETRIES + 1)),
        actions=[action],
    )


def _give_up() -> AutomationCore:
    action = ChangeFlowRunState(name="Failed", state=StateType.FAILED, message=TOO_OFTEN, force=True)
    return AutomationCore(
        name=f"{PREFIX}a run that crashes again and again fails",
        description="With its reason; to start it again is for a person to decide.",
        trigger=_crashed(range(NUM_RETRIES + 1, 4 * NUM_RETRIES)),
        actions=[action],
    )


def _lost() -> AutomationCore:
    """Any news of the run counts as life: a state that it changed to, or its next heartbeat."""
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=_of_our_pool(),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=LOST_AFTER,
    )
    why = f"no sign of life for {LOST_AFTER.total_seconds():.0f} s: its process or its machine is gone"
    return AutomationCore(
        name=f"{PREFIX}a lost run is crashed",
        description="Its heartbeat stopped; it is then resumed like any crashed run.",
        trigger=trigger,
        actions=[ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=why)],
    )


def _retrain(deployment: UUID) -> AutomationCore:
    """Prefect renders the templates from the event's payload."""
    parameters = {
        name: {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{name} }}}}"}
        for name in ("product", "reason")
    }
    match = ResourceSpecification.model_validate({"prefect.resource.id": "roadworthy.product.*"})
    return AutomationCore(
        name=f"{PREFIX}an alarm retrains",
        description="The monitor found a product worse than it was judged; its gates decide about the new version.",
        trigger=EventTrigger(
            expect={RETRAINING}, match=match, for_each={"prefect.resource.id"}, posture=Posture.Reactive,
            threshold=1, within=timedelta(0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment, parameters=parameters)],
    )  # fmt: skip
