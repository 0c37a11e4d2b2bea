"""The applications of the gateway: MLflow's, Prefect's, and serving with the page at `/`.

Each finds the line of the matrix, lets the door judge, and has the courier carry what may go on.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson

from services import gateway_orders as orders
from services.answers import Application, Headers, Receive, Refusal, Scope, Send, header, send_answer
from services.gateway_config import GatewayConfig, Told
from services.gateway_door import MAX_SHOWN_BODY, REQUEST_ID, Door, Visit, about
from services.gateway_forward import Behind, Courier, Gone, Intake
from services.gateway_guard import may_end, refuse_if_live
from services.gateway_matrix import MLFLOW, PREFECT, SERVING, SOCKET, Rule, rule
from services.gateway_observe import GatewayMetrics
from services.gateway_page import HEADERS, page, who
from services.gateway_socket import bridge
from services.guard import ASK_IN_BROWSER, target
from services.observe import CONTENT_TYPE
from services.quotas import is_loopback

LOG = logging.getLogger("roadworthy.gateway")

OPEN = frozenset({"/livez", "/readyz"})
RETOLD = frozenset({(PREFECT, "/ui-settings"), (MLFLOW, "/ajax-api/2.0/mlflow/users/current")})
ITSELF = "gateway"
_JSON: Headers = [(b"content-type", b"application/json")]
_MLFLOW_CODES = {
    400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 409: "RESOURCE_CONFLICT",
    503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip
_TEXT: Headers = [(b"content-type", b"text/plain")]
Answer = Callable[[Visit, Scope, Receive, Send], Awaitable[None]]


class Gateway:
    """What clients reach, at each of its ports."""

    def __init__(self, told: Told, door: Door, courier: Courier, metrics: GatewayMetrics) -> None:
        self._told, self._door, self._courier, self._metrics = told, door, courier, metrics

    def of(self, service: str) -> Application:
        """The application of one port."""
        answer: Answer = self._serving if service == SERVING else self._server

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                await self._socket(service, scope, receive, send)
            else:
                await self._answered(answer, self._door.visit(scope, service, scope["method"]), scope, receive, send)

        return application

    async def _answered(self, answer: Answer, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a refusal is JSON in the shape of the services' own. The trail and the counts follow."""
        began, is_refusal = time.perf_counter(), False
        try:
            await answer(visit, scope, receive, send)
        except Refusal as refusal:
            is_refusal = True
            if not visit.status and refusal.status < 500:
                self._door.refused(visit, refusal)
            visit.status = refusal.status
            headers = [*refusal.headers, (REQUEST_ID, visit.request_id.encode())]
            if refusal.status == 401:
                headers.append(ASK_IN_BROWSER)
            body = _shaped(visit.service, refusal)
            await send_answer(send, refusal.status, body, headers, with_body=visit.method != "HEAD")
        except Gone:
            visit.status = visit.status or 499
        finally:
            if not is_refusal or visit.status >= 500:
                self._door.answered(visit)
            self._metrics.answered(visit.service, visit.status, time.perf_counter() - began, is_refusal)

    async def _server(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """MLflow or Prefect: judged by the matrix, asked with the gateway's own credentials."""
        if visit.path in OPEN:
            await self._own(visit, send)
            return
        config, line = self._told.config(), rule(visit.service, visit.method, visit.path)
        await self._door.admit(visit, scope, line)
        behind = self._behind(visit.service, config)
        if (visit.service, visit.path) in RETOLD and visit.method == "GET":
            await self._retold(visit, scope, send, behind)
            return
        max_bytes = config.max_upload_bytes if line.is_upload else config.max_body_bytes
        body = await self._looked_at(visit, scope, behind, Intake(scope, receive, max_bytes))
        await self._courier.carry(visit, scope, send, behind, _target(scope), body)

    async def _looked_at(self, visit: Visit, scope: Scope, behind: Behind, intake: Intake) -> Intake | bytes:
        """The body, read where it decides whether the call may go on; a privileged call is in the trail then."""
        role = visit.grant.role if visit.grant else ""
        fields = orders.fields_of(visit.service, visit.method, visit.path) if role != "operator" else {}
        if not (fields or visit.is_privileged):
            return intake
        whole = await intake.whole() if intake.is_small(orders.MAX_BYTES if fields else MAX_SHOWN_BODY) else None
        if visit.is_privileged:
            visit.about = about(whole or b"", scope["query_string"])
        try:
            if fields:
                orders.check(role, fields, whole or b"")
            if may_end(visit.service, visit.path):
                await refuse_if_live(self._courier, behind, visit.path, whole or b"")
        except Refusal as refusal:
            self._door.refuse(visit, refusal)
        if visit.is_privileged:
            await self._door.announce(visit)
        return intake if whole is None else whole

    async def _serving(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """The gateway's own pages, or a product's router, which judges the caller's key itself once more."""
        product, _, rest = visit.path[1:].partition("/")
        config = self._told.config()
        if visit.path in OPEN or (visit.path == "/metrics" and _is_scraped_here(scope)):
            await self._own(visit, send)
            return
        wanted = target(f"/{rest}")
        grant = await self._door.admit(visit, scope, Rule("viewer", visit.method, f"/{{product}}{wanted.route}"))
        if visit.path in ("/", "/whoami"):
            body, headers = (page(scope, config, grant), HEADERS) if visit.path == "/" else (who(grant), _JSON)
            await self._say(visit, send, 200, body, headers)
        elif visit.path == "/metrics":
            await self._own(visit, send)
        elif product not in config.products:
            known = ", ".join(sorted(config.products)) or "none"
            self._door.refuse(visit, Refusal(404, "no such product", "path", f"one of {known}", product[:64]))
        elif visit.path == f"/{product}":
            await self._say(visit, send, 307, b"", [(b"location", f"/{product}/".encode())])
        else:
            if wanted.verb and not grant.allows(wanted.verb, wanted.model):
                may = ", ".join(sorted({verb for verb, _ in grant.allowed})) or "nothing"
                got = f"{wanted.verb} {wanted.model or product}"[:200]
                self._door.refuse(visit, Refusal(403, "the key does not allow this", "authorization", may, got))
            intake = Intake(scope, receive, config.max_body_bytes)
            behind = Behind(config.products[product])
            await self._courier.carry(visit, scope, send, behind, _target(scope, f"/{product}"), intake)

    async def _socket(self, service: str, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.visit(scope, service, SOCKET)
        if service != PREFECT:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        url = self._told.config().prefect + _target(scope)
        line = rule(service, SOCKET, visit.path)
        session, token = self._courier.session, self._told.credentials.prefect_token
        await bridge(self._door, visit, line, scope, receive, send, session, url, token)

    def _behind(self, service: str, config: GatewayConfig) -> Behind:
        known = self._told.credentials
        if service == MLFLOW:
            return Behind(config.mlflow, known.mlflow)
        return Behind(config.prefect, known.prefect)

    async def _retold(self, visit: Visit, scope: Scope, send: Send, behind: Behind) -> None:
        """What pages ask about themselves: Prefect's where its API is, by the name that the browser used, and that
        nobody need log in again; MLflow's who is here.
        """
        found = await self._courier.read(visit.service, behind, visit.path)
        if visit.service == PREFECT:
            host, scheme = header(scope, b"host").decode("latin-1"), scope.get("scheme", "http")
            found |= {"api_url": f"{scheme}://{host}/api", "auth": None}
        elif visit.grant and isinstance(found.get("user"), dict):
            name = f"{visit.grant.name} ({visit.grant.role})"
            found |= {"user": found["user"] | {"username": name}, "is_basic_auth": False}  # no password to change
        await self._say(visit, send, 200, orjson.dumps(found), list(_JSON))

    async def _own(self, visit: Visit, send: Send) -> None:
        """What the gateway says of itself without a key."""
        visit.service = ITSELF
        if visit.path == "/metrics":
            await self._say(visit, send, 200, self._metrics.exposition(), [(b"content-type", CONTENT_TYPE.encode())])
        elif visit.path == "/livez":
            await self._say(visit, send, 200, b"\n", _TEXT)
        else:
            config = self._told.config()
            asked = {MLFLOW: f"{config.mlflow}/health", PREFECT: f"{config.prefect}/api/health"}
            are_well = await asyncio.gather(*map(self._probe, asked.values()))
            if missing := [name for name, is_well in zip(asked, are_well, strict=True) if not is_well]:
                raise Refusal(503, "a server does not answer", "readyz", ", ".join(asked), f"not {', '.join(missing)}")
            await self._say(visit, send, 200, b"\n", _TEXT)

    async def _probe(self, url: str) -> bool:
        try:
            async with self._courier.session.get(url, timeout=aiohttp.ClientTimeout(total=2.0)) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _say(self, visit: Visit, send: Send, status: int, body: bytes, headers: Headers) -> None:
        visit.status = status
        told = [*headers, (REQUEST_ID, visit.request_id.encode())]
        await send_answer(send, status, body, told, with_body=visit.method != "HEAD")


def _shaped(service: str, refusal: Refusal) -> bytes:
    """The refusal, also in the words in which the server's own clients and pages look for a reason."""
    told = orjson.loads(refusal.body)
    if service == MLFLOW:
        told |= {"error_code": _MLFLOW_CODES.get(refusal.status, "INTERNAL_ERROR"), "message": refusal.in_words()}
    elif service == PREFECT:
        told |= {"exception_message": refusal.what, "detail": refusal.in_words()}
    return orjson.dumps(told)


def _target(scope: Scope, prefix: str = "") -> str:
    """Path and query as they came, without the product's name."""
    path = bytes(scope["raw_path"]).decode("latin-1").removeprefix(prefix)
    query = scope["query_string"]
    return f"{path}?{query.decode('latin-1')}" if query else path


def _is_scraped_here(scope: Scope) -> bool:
    client = scope.get("client") or ("",)
    return is_loopback(str(client[0])) and not header(scope, b"x-forwarded-for")
