"""The matrix as a table: what it opens, what it leaves to the operator, and that no path slips past it."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.roles import ROLES, includes
from services.gateway_matrix import MATRIX, MLFLOW, PREFECT, SOCKET, Rule, is_plain, rule


def spelled(pattern: str) -> list[str]:
    """Every path that a pattern's alternatives make; `*` is `x`, `**` is `x/y`."""
    parts = re.split(r"(\{[^}]*\})", pattern.replace("**", "x/y").replace("*", "x"))
    choices = [part[1:-1].split(",") if part.startswith("{") else [part] for part in parts]
    return ["".join(words) for words in product(*choices)]


LINES = [(service, line) for service, lines in MATRIX.items() for line in lines]


@pytest.mark.parametrize(("service", "line"), LINES, ids=lambda value: getattr(value, "pattern", value))
def test_every_line_decides_what_it_names(service: str, line: Rule) -> None:
    for method, path in product(line.methods.split(), spelled(line.pattern)):
        found = rule(service, method, path)
        assert found.role == line.role or includes(found.role, line.role)  # an earlier line may be stricter only
        assert found.is_change == line.is_change


@pytest.mark.parametrize(
    ("service", "method", "path", "role"),
    [
        (MLFLOW, "GET", "/", "viewer"),
        (MLFLOW, "HEAD", "/api/2.0/mlflow-artifacts/artifacts/1/a/b.bin", "viewer"),
        (MLFLOW, "POST", "/ajax-api/2.0/mlflow/runs/search", "viewer"),
        (MLFLOW, "POST", "/api/2.0/mlflow/runs/log-batch", "trainer"),
        (MLFLOW, "PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a/b.bin", "trainer"),
        (MLFLOW, "POST", "/api/2.0/mlflow/model-versions/create", "trainer"),
        (MLFLOW, "POST", "/api/2.0/mlflow/model-versions/set-tag", "promoter"),
        (MLFLOW, "POST", "/ajax-api/2.0/mlflow/registered-models/alias", "promoter"),
        (MLFLOW, "DELETE", "/api/2.0/mlflow/registered-models/alias", "promoter"),
        (MLFLOW, "POST", "/api/2.0/mlflow/runs/delete", "operator"),
        (MLFLOW, "DELETE", "/api/2.0/mlflow/model-versions/delete", "operator"),
        (MLFLOW, "DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/a", "operator"),
        (MLFLOW, "POST", "/api/2.0/mlflow/registered-models/rename", "operator"),
        (MLFLOW, "GET", "/api/2.0/mlflow/webhooks", "operator"),
        (MLFLOW, "POST", "/api/2.0/mlflow/users/create", "operator"),
        (MLFLOW, "GET", "/api/3.0/mlflow/gateway/secrets/list", "operator"),
        (MLFLOW, "OPTIONS", "/", "operator"),
        (PREFECT, "GET", "/v2/runs", "viewer"),
        (PREFECT, "POST", "/api/flow_runs/filter", "viewer"),
        (PREFECT, SOCKET, "/api/events/out", "viewer"),
        (PREFECT, SOCKET, "/api/events/in", "trainer"),
        (PREFECT, SOCKET, "/api/work_pools/x/workers/connect", "operator"),
        (PREFECT, "POST", "/api/flow_runs/", "trainer"),
        (PREFECT, "POST", "/api/flow_runs/x/set_state", "trainer"),
        (PREFECT, "POST", "/api/deployments/x/create_flow_run", "promoter"),
        (PREFECT, "POST", "/api/deployments/", "operator"),
        (PREFECT, "POST", "/api/deployments/x/pause_deployment", "operator"),
        (PREFECT, "PATCH", "/api/automations/x", "operator"),
        (PREFECT, "DELETE", "/api/flow_runs/x", "operator"),
        (PREFECT, "GET", "/api/block_documents/x", "operator"),
        (PREFECT, "POST", "/api/block_documents/filter", "operator"),
        (PREFECT, "GET", "/api/something/new", "operator"),
    ],
)
def test_the_promised_cells(service: str, method: str, path: str, role: str) -> None:
    assert rule(service, method, path).role == role


@given(st.sampled_from(sorted(MATRIX)), st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "TRACE"]), st.text())
def test_what_nobody_thought_of_is_the_operators(service: str, method: str, text: str) -> None:
    found = rule(service, method, f"/api/2.0/mlflow/new/{text}")
    assert found.role == "operator" and found.is_change
    assert len(found.label(f"/api/{text}")) <= len("/**") and found.role == ROLES[-1]  # no stranger's word in the trail


def test_labels_keep_the_servers_words_and_hide_the_callers() -> None:
    for path, label in (
        ("/api/flow_runs/4711/set_state", "/api/flow_runs/*/set_state"),
        ("/api/deployments/4711/create_flow_run", "/api/deployments/*/create_flow_run"),
    ):
        assert rule(PREFECT, "POST", path).label(path) == label
    path = "/api/2.0/mlflow-artifacts/artifacts/1/secret.bin"
    assert rule(MLFLOW, "PUT", path).label(path) == "/api/2.0/mlflow-artifacts/artifacts/**"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/", True),
        ("/api/flows/", True),
        ("/api/2.0/mlflow-artifacts/artifacts/1/ä b.bin", True),
        ("//api/flows", False),
        ("/api//flows", False),
        ("/api/../api/flows", False),
        ("/api/./flows", False),
        ("/api\\flows", False),
        ("/api/flows\n", False),
        ("api/flows", False),
        ("", False),
    ],
)
def test_paths_that_could_be_read_otherwise_are_not_plain(path: str, plain: bool) -> None:
    assert is_plain(path) is plain
