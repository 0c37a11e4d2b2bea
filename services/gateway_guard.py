"""Nobody deletes what is live, an operator neither: MLflow itself would let him.

An alias is the projection of the ledger onto MLflow's registry: a version that bears one is on the road or on its way.
MLflow is asked when somebody wants to delete or rename, so that what it knows now decides. The alias itself goes by
`roadworthy rollback` or `roadworthy undeploy`, never by deleting.
"""

from urllib.parse import urlencode

import orjson

from services.answers import Refusal
from services.gateway_forward import Behind, Courier
from services.gateway_matrix import MLFLOW

_API = "/api/2.0/mlflow"
# What a call ends, by the last words of its path: where MLflow shows it, and under which name.
_SHOWN = {
    "model-versions/delete": ("model-versions/get", "model_version", ("name", "version")),
    "registered-models/delete": ("registered-models/get", "registered_model", ("name",)),
    "registered-models/rename": ("registered-models/get", "registered_model", ("name",)),
}


def may_end(service: str, path: str) -> bool:
    """Whether a call of this path could take away what is live."""
    return service == MLFLOW and "/".join(path.rstrip("/").split("/")[-2:]) in _SHOWN


async def refuse_if_live(courier: Courier, behind: Behind, path: str, body: bytes) -> None:
    """Raises Refusal 409 for what bears an alias, 400 for a body that could be read in two ways, 502 without answer."""
    place, kind, names = _SHOWN["/".join(path.rstrip("/").split("/")[-2:])]
    given = _given(body)
    wanted = {name: str(given[name]) for name in names if name in given}
    found = await courier.read(MLFLOW, behind, f"{_API}/{place}?{urlencode(wanted)}")
    aliases = (found.get(kind) or {}).get("aliases") or []
    worn = sorted(str(one["alias"] if isinstance(one, dict) else one) for one in aliases)
    if worn:
        subject = " ".join(wanted.values())[:100]
        expected = "a version without an alias; roadworthy rollback or undeploy first"
        raise Refusal(409, "what is live is not deleted", subject, expected, ", ".join(worn)[:100])


def _given(body: bytes) -> dict[str, object]:
    """What a call names: its body as MLflow reads it, which must be one JSON object in UTF-8."""
    try:
        found = orjson.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, "not one JSON object", "body", "an object in UTF-8, of 64 kB at most", "something else")
    return found
