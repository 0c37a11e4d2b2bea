"""What a call may say below an operator.

Nothing that makes a server or a worker reach where its caller may not. Prefect lets whoever makes a run name the
command, the environment and the folder of the process that a worker starts for it (`job_variables`), and put it into
any queue. MLflow reads with its own rights from where an experiment says that its artifacts are, or a version that it
comes from: a file of its host, any object of the bucket. Workers and servers hold the platform's secrets, so these
are the operator's; a deployment, a queue and the parameters of a run that waits are a promoter's.
"""

import re
from typing import Any

import orjson

from infra.roles import Role, includes
from services.answers import Refusal
from services.gateway_matrix import MLFLOW, PREFECT

MAX_BYTES = 1_000_000  # Prefect takes half as much as parameters
_OPERATORS: dict[str, Role] = {"job_variables": "operator", "infrastructure_document_id": "operator"}
TO_MAKE: dict[str, Role] = {
    **_OPERATORS, "deployment_id": "promoter", "work_pool_name": "promoter", "work_queue_name": "promoter",
}  # fmt: skip
TO_CHANGE: dict[str, Role] = {**_OPERATORS, "parameters": "promoter"}
# protobuf takes both spellings of a name
TO_PLACE: dict[str, Role] = {"artifact_location": "operator", "artifactLocation": "operator", "source": "operator"}
OWN_PLACES = ("mlflow-artifacts:/", "runs:/", "models:/")  # below these MLflow holds a source against its run or model
_LINES = (
    (PREFECT, "POST", r"/api/(flow_runs|deployments/[^/]+/create_flow_run(/bulk)?)", TO_MAKE),
    (PREFECT, "PATCH", r"/api/flow_runs/[^/]+", TO_CHANGE),
    (MLFLOW, "POST", r"/(ajax-)?api/[23]\.0/mlflow/(experiments|model-versions)/create", TO_PLACE),
)


def fields_of(service: str, method: str, path: str) -> dict[str, Role]:
    """The fields of such a call that ask for a higher role, and which; empty for every other call."""
    bare = path.rstrip("/")
    for known, verb, pattern, fields in _LINES:
        if (known, verb) == (service, method) and re.fullmatch(pattern, bare):
            return fields
    return {}


def check(role: str, fields: dict[str, Role], body: bytes) -> None:
    """Raises Refusal 403 for a field that is not this role's, 400 for a body that could be read in two ways."""
    try:  # the servers take UTF-16 as well, in which nothing would be found here
        found = orjson.loads(body)
    except ValueError:
        found = None
    items = found if isinstance(found, list) else [found]
    if not all(isinstance(item, dict) for item in items):
        raise Refusal(400, "not JSON objects", "body", f"objects in UTF-8, {MAX_BYTES} bytes at most", "something else")
    for item in items:
        for name in item.keys() & fields.keys():
            if not _is_own(item[name]) and not includes(role, fields[name]):
                raise Refusal(403, f"the role does not allow {name}", "role", f"{fields[name]} or above", role)


def _is_own(value: Any) -> bool:
    """Whether a field says nothing, or an address that MLflow keeps to its own artifacts."""
    return not value or (isinstance(value, str) and value.startswith(OWN_PLACES) and ".." not in value)
