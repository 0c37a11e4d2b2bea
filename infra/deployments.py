"""The record of what is deployed: a file for each product, written before it is made so.

Whoever deploys or rolls out can be killed at any moment. The record says what was meant, the router goes on as it was
told last, and the next command starts from both.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.atomic import write_atomic
from infra.ledger import Ledger, utc_now
from infra.settings import Settings

DEPLOY, ROLL_OUT, ROLL_BACK, UNDEPLOY = "deploy", "roll_out", "roll_back", "undeploy"
RECORD = "deployment.json"
NUM_EVENTS = 50  # of the history in the record; the ledger has all of it

Engine = Literal["process", "container"]
State = Literal["starting", "live", "rolling", "rolled back"]


class DeploymentError(RuntimeError):
    """The record cannot be read, or what it says cannot be done; the message says why."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Replica(_Frozen):
    """One server of one version; `bento` is its folder, `image` what a container is made of."""

    name: str
    version: int
    digest: str
    bento: str = ""
    image: str = ""
    port: int
    grpc_port: int | None = None
    weight: float = Field(default=0.0, ge=0)

    @property
    def group(self) -> str:
        """Replicas of one version answer alike."""
        return f"v{self.version}"


class Event(_Frozen):
    """One thing that was done to the deployment; `time` is ISO 8601 in UTC."""

    time: str
    action: str
    version: int
    detail: str = ""


class Deployment(_Frozen):
    """All of one product's. Of `replicas` those with a weight are on the road; `previous` stay warm for a rollback.

    `version` is the one that clients are meant to get; `candidate` the one being rolled out. `roll_out` names the
    attempt, so that what a router took off the road in one is not held against the next.
    """

    product: str
    engine: Engine
    host: str
    port: int
    grpc_port: int
    is_open: bool = False
    num_replicas: int = Field(ge=1)
    version: int
    replicas: tuple[Replica, ...] = ()
    previous: tuple[Replica, ...] = ()
    candidate: int | None = None
    state: State = "starting"
    reason: str = ""
    roll_out: str = ""
    history: tuple[Event, ...] = ()

    def of(self, version: int) -> tuple[Replica, ...]:
        """The replicas of a version, wherever they stand."""
        return tuple(one for one in (*self.replicas, *self.previous) if one.version == version)

    @property
    def warm(self) -> int | None:
        """The version that a rollback can switch to at once."""
        return self.previous[0].version if self.previous else None

    def noted(self, action: str, version: int, detail: str = "") -> "Deployment":
        """With one more event."""
        event = Event(time=utc_now().isoformat(timespec="milliseconds"), action=action, version=version, detail=detail)
        return self.model_copy(update={"history": (*self.history, event)[-NUM_EVENTS:]})


class Deployments:
    """The records of a HOME, in HOME/deployments/<product>/."""

    def __init__(self, config: Settings, ledger: Ledger) -> None:
        self.folder = config.folder / "deployments"
        self._ledger = ledger

    def folder_of(self, product: str) -> Path:
        """Where the record, the router's file and the group's logs are."""
        return self.folder / product

    def find(self, product: str) -> Deployment | None:
        """The record; None when the product is not deployed. Raises DeploymentError for one that cannot be read."""
        path = self.folder_of(product) / RECORD
        try:
            return Deployment.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DeploymentError(f"{path}: expected the record of a deployment, got {error}; undeploy it") from error

    def read(self, product: str) -> Deployment:
        """The record; raises DeploymentError when the product is not deployed."""
        found = self.find(product)
        if found is None:
            known = ", ".join(self.products()) or "none"
            raise DeploymentError(
                f"product '{product}': expected a deployment, got none; deployed: {known}; "
                f"start one: roadworthy deploy {product}"
            )
        return found

    def products(self) -> list[str]:
        """Everything that is deployed, sorted."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{RECORD}"))

    def write(self, deployment: Deployment) -> Deployment:
        """Keep it; on the disk when this returns."""
        path = self.folder_of(deployment.product) / RECORD
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, deployment.model_dump_json(indent=1).encode(), mode=0o600)
        return deployment

    def begin(self, deployment: Deployment, action: str, version: int, detail: str = "") -> Deployment:
        """Write the ledger's entry, then the record: both are on the disk before anything else changes."""
        digests = [one.digest for one in deployment.of(version)]
        self._ledger.append(
            action, deployment.product, version=version, digest=digests[0] if digests else "",
            engine=deployment.engine, roll_out=deployment.roll_out, detail=detail,
        )  # fmt: skip
        return self.write(deployment.noted(action, version, detail))

    def remove(self, deployment: Deployment) -> None:
        """Forget a product that is no longer deployed."""
        (self.folder_of(deployment.product) / RECORD).unlink(missing_ok=True)
