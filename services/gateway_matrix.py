"""The permission matrix: which role may do what at MLflow and at Prefect.

What is not in it is the operator's. One table, in the order in which it is asked; the first line that fits decides.
In a pattern `*` is one word of a path, `**` all the rest, `{a,b}` one of these. What a role may do at serving is its
verbs (`infra.roles`), judged by `services.guard`.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from infra.roles import Role

MLFLOW, PREFECT, SERVING = "mlflow", "prefect", "serving"
SOCKET = "WEBSOCKET"  # the method of a handshake
MAX_REMEMBERED = 512  # characters of a path whose line is kept


class Rule(NamedTuple):
    """One line. `is_change`: it is audited; `is_upload`: its body may be of any size."""

    role: Role
    methods: str
    pattern: str
    is_change: bool = False
    is_upload: bool = False

    def label(self, path: str) -> str:
        """How the audit trail names a call of `path`: its words where the line names them, `*` for a caller's own."""
        named, said = self.pattern.split("/"), path.split("/")
        kept = [word if "*" not in line else line for line, word in zip(named, said, strict=False)]
        return "/".join(kept)


_API = "/{api,ajax-api}/{2.0,3.0}/mlflow"
_FILES = "/{api,ajax-api}/2.0/mlflow-artifacts"


def _lines(role: Role, methods: str, *patterns: str, prefix: str = _API, change: bool = True) -> list[Rule]:
    return [Rule(role, methods, prefix + pattern, change) for pattern in patterns]


_MLFLOW = (
    # The pages, and what they show.
    *_lines(
        "viewer", "GET", "/", "/{health,version,favicon.ico,manifest.json}", "/{static-files,build}/**",
        "/get-artifact", "/model-versions/get-artifact", prefix="", change=False,
    ),
    *_lines("viewer", "GET POST", "/graphql", prefix="", change=False),  # its mutations only search
    *_lines("viewer", "GET", "/artifacts", "/artifacts/**", "/presigned/**", prefix=_FILES, change=False),
    *_lines(
        "viewer", "GET", "/artifacts/list", "/experiments/{get,get-by-name,search}", "/logged-models/**",
        "/metrics/{get-history,get-history-bulk,get-history-bulk-interval}", "/runs/get",
        "/model-versions/{get,search,get-download-uri}", "/registered-models/{get,search,alias,get-latest-versions}",
        "/{traces,datasets,issues}", "/{traces,datasets,issues,mcp-servers}/**", "/mcp-servers",
        "/{get-trace-artifact,unified-traces,get-online-trace-details,ui-telemetry,server-info}",
        "/{label-schemas,review-queues,scorers}/{get,list,get-by-name,versions}", "/review-queues/items/list",
        "/users/current", "/users/current/permissions", "/workspaces", change=False,
    ),
    *_lines(
        "viewer", "POST", "/{experiments,runs,logged-models,datasets,traces,issues}/search", "/ui-telemetry",
        "/experiments/search-datasets", "/registered-models/get-latest-versions", "/artifacts/presigned-download-url",
        "/traces/{batchGetInfos,metrics,calculate-filter-correlation}", change=False,
    ),
    # Runs, models and files of an experiment; a model registered. Not traces: a tag of theirs says where MLflow reads.
    Rule("trainer", "PUT", f"{_FILES}/artifacts/**", True, True),
    *_lines("trainer", "POST", "/mpu/{create,complete,abort}/**", prefix=_FILES),
    Rule("trainer", "POST", f"{_API}/upload-artifact", True, True),
    *_lines(
        "trainer", "POST", "/experiments/{create,update,set-experiment-tag,delete-experiment-tag}",
        "/runs/{create,update,log-batch,log-inputs,log-metric,log-parameter,log-model,outputs,set-tag,delete-tag}",
        "/logged-models", "/logged-models/*/params", "/{registered-models,model-versions}/create",
        "/artifacts/presigned-upload-url",
        "/datasets/create", "/datasets/*/{records,add-experiments,remove-experiments}",
    ),
    *_lines("trainer", "PATCH", "/logged-models/*", "/{logged-models,datasets}/*/tags"),
    *_lines("trainer", "DELETE", "/{logged-models,datasets}/*/tags/*"),
    # What a registered version's page says is evidence for whoever approves it; an alias asks for the road.
    *_lines("promoter", "POST", "/registered-models/alias", "/{registered-models,model-versions}/set-tag"),
    *_lines("promoter", "DELETE", "/registered-models/alias", "/{registered-models,model-versions}/delete-tag"),
    *_lines("promoter", "PATCH", "/{registered-models,model-versions}/update"),
    *_lines("promoter", "POST", "/model-versions/transition-stage"),
)  # fmt: skip

_KEPT = (
    "{artifacts,automations,block_types,block_schemas,concurrency_limits,deployments,flow_runs,flows,saved_searches,"
    "task_runs,variables,work_pools,work_queues}"
)
_PREFECT = (
    # Blocks may hold secrets: before the lines that let everybody read.
    *_lines("operator", "POST", "/block_documents/{filter,count}", prefix="/api", change=False),
    *_lines(
        "operator", "GET", "/block_documents/**", "/block_types/slug/*/block_documents/**",
        "/block_types/slug/*/block_documents", "/admin/storage", prefix="/api", change=False,
    ),
    *_lines(
        "viewer", "GET", "/{health,hello,ready,version,csrf-token}", "/admin/{version,settings}", f"/{_KEPT}",
        f"/{_KEPT}/**",
        "/{flow_run_states,task_run_states}", "/{flow_run_states,task_run_states}/*", "/block_capabilities",
        "/collections/views/*", "/events/filter/next", "/v2/concurrency_limits/*", "/ui/task_runs/*", prefix="/api",
        change=False,
    ),
    *_lines("operator", "GET", "/api", "/api/**", prefix="", change=False),  # the rest of the API
    *_lines("viewer", "GET", "/", "/**", prefix="", change=False),  # the pages
    *_lines(
        "viewer", "POST", f"/{_KEPT}/{{filter,count,paginate,history,lateness}}", "/v2/concurrency_limits/filter",
        "/{events,logs,task_workers}/filter",
        "/artifacts/latest/{filter,count}", "/events/count-by/*", "/{work_pools,work_queues}/*/concurrency_status",
        "/work_pools/*/{queues,workers}/filter", "/flow_runs/*/input/filter", "/ui/{flows,flow_runs,task_runs}/*",
        "/ui/task_runs/dashboard/counts", "/ui/schemas/validate", "/templates/validate",
        "/automations/templates/validate", prefix="/api", change=False,
    ),
    *_lines("viewer", SOCKET, "/api/{events,logs}/out", prefix="", change=False),
    # Runs of one's own: flows, tasks, their states, logs, artifacts and events.
    *_lines(
        "trainer", "POST", "/{flows,flow_runs,task_runs,artifacts,logs,events}", "/{flow_runs,task_runs}/*/set_state",
        "/flow_runs/*/{input,resume}", "/flow_runs/bulk_set_state",
        "/{concurrency_limits,v2/concurrency_limits}/{increment,decrement}",
        "/v2/concurrency_limits/{increment-with-lease,decrement-with-lease}",
        "/v2/concurrency_limits/leases/*/renew", prefix="/api",
    ),
    *_lines("trainer", "PATCH", "/{flow_runs,task_runs,artifacts}/*", "/flow_runs/*/labels", prefix="/api"),
    *_lines("trainer", "PUT", "/saved_searches", prefix="/api"),
    *_lines("trainer", SOCKET, "/api/events/in", prefix=""),
    # A deployment's flow may retrain, judge and roll out.
    *_lines("promoter", "POST", "/deployments/*/create_flow_run", "/deployments/*/create_flow_run/bulk", prefix="/api"),
)  # fmt: skip

MATRIX: dict[str, tuple[Rule, ...]] = {MLFLOW: _MLFLOW, PREFECT: _PREFECT}
_READS = Rule("operator", "GET", "/**")
_REST = Rule("operator", "*", "/**", is_change=True)


def rule(service: str, method: str, path: str) -> Rule:
    """The line that decides; `path` is decoded. What no line names is the operator's, a change unless it is a GET."""
    wanted = "GET" if method == "HEAD" else method
    bare = path.rstrip("/") or "/"
    return _remembered(service, wanted, bare) if len(bare) <= MAX_REMEMBERED else _found(service, wanted, bare)


def _found(service: str, method: str, path: str) -> Rule:
    for line, methods, pattern in _COMPILED[service]:
        if method in methods and pattern.fullmatch(path):
            return line
    return _READS if method == "GET" else _REST


_remembered = lru_cache(maxsize=4096)(_found)


def is_plain(path: str) -> bool:
    """Whether a decoded path says one thing only: a server might read dots, doubled or turned slashes otherwise."""
    words = path.split("/")[1:]
    is_whole = path.startswith("/") and "" not in words[:-1] and not {".", ".."} & set(words)
    return is_whole and "\\" not in path and path.isprintable()


def _expression(pattern: str) -> "re.Pattern[str]":
    words = re.split(r"(\*\*|\*|\{|\}|,)", pattern)
    meaning = {"**": ".+", "*": "[^/]+", "{": "(?:", "}": ")", ",": "|"}
    return re.compile("".join(meaning.get(word, re.escape(word)) for word in words))


_COMPILED = {
    service: tuple((line, frozenset(line.methods.split()), _expression(line.pattern)) for line in lines)
    for service, lines in MATRIX.items()
}
