"""Nobody below an operator chooses what a worker executes, or where a server reads."""

import json

import pytest

from infra.roles import ROLES, Role, includes
from services.answers import Refusal
from services.gateway_matrix import MLFLOW, PREFECT
from services.gateway_orders import TO_CHANGE, TO_MAKE, TO_PLACE, check, fields_of


@pytest.mark.parametrize(
    ("service", "method", "path", "fields"),
    [
        (PREFECT, "POST", "/api/flow_runs/", TO_MAKE),
        (PREFECT, "POST", "/api/flow_runs", TO_MAKE),
        (PREFECT, "PATCH", "/api/flow_runs/7", TO_CHANGE),
        (PREFECT, "POST", "/api/deployments/7/create_flow_run", TO_MAKE),
        (PREFECT, "POST", "/api/deployments/7/create_flow_run/bulk/", TO_MAKE),
        (MLFLOW, "POST", "/ajax-api/2.0/mlflow/experiments/create", TO_PLACE),
        (MLFLOW, "POST", "/api/2.0/mlflow/model-versions/create", TO_PLACE),
        (PREFECT, "POST", "/api/flow_runs/filter", {}),
        (PREFECT, "POST", "/api/flow_runs/7/set_state", {}),
        (MLFLOW, "POST", "/api/flow_runs/", {}),
        (MLFLOW, "POST", "/api/2.0/mlflow/runs/create", {}),
    ],
)
def test_what_sends_servers_somewhere_is_looked_at(
    service: str, method: str, path: str, fields: dict[str, Role]
) -> None:
    assert fields_of(service, method, path) == fields


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("fields", "name", "needed"),
    [
        (TO_MAKE, "job_variables", "operator"),
        (TO_CHANGE, "job_variables", "operator"),
        (TO_MAKE, "infrastructure_document_id", "operator"),
        (TO_MAKE, "deployment_id", "promoter"),
        (TO_MAKE, "work_pool_name", "promoter"),
        (TO_MAKE, "work_queue_name", "promoter"),
        (TO_CHANGE, "parameters", "promoter"),
        (TO_PLACE, "artifact_location", "operator"),
        (TO_PLACE, "artifactLocation", "operator"),
        (TO_PLACE, "source", "operator"),
    ],
)
def test_a_field_ends_where_its_role_does(role: str, fields: dict[str, Role], name: str, needed: str) -> None:
    own = {"name": "swift-road"}
    check(role, fields, json.dumps({**own, name: None}).encode())
    wish = {**own, name: {"command": "sh -c 'cat keys/services.json'"}}
    for body in (wish, [own, wish]):
        if includes(role, needed):
            check(role, fields, json.dumps(body).encode())
        else:
            with pytest.raises(Refusal, match=name) as caught:
                check(role, fields, json.dumps(body).encode())
            assert caught.value.status == 403


def test_a_trainer_registers_from_his_runs_and_from_nowhere_else() -> None:
    for own in ("runs:/1/model", "models:/m-1", "mlflow-artifacts:/1/2/artifacts/model"):
        check("trainer", TO_PLACE, json.dumps({"name": "ring", "source": own}).encode())
    for other in (
        "s3://roadworthy/captures",
        "file:///home/keys",
        "/home/keys",
        "runs:/1/../../x",
        "http://x/",
        "runs:x",
    ):
        with pytest.raises(Refusal, match="source"):
            check("promoter", TO_PLACE, json.dumps({"name": "ring", "source": other}).encode())


@pytest.mark.parametrize("body", [b"", b"7", b"null", b'"{}"', b"[[]]", b"{", '{"job_variables": {}}'.encode("utf-16")])
def test_a_body_that_hides_its_fields_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        check("trainer", TO_MAKE, body)
    assert caught.value.status == 400
