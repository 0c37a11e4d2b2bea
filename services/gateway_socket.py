"""WebSockets through the gateway: Prefect's streams of events and logs.

Prefect's clients show who they are in the head of the handshake, or in a first message
`{"type": "auth", "token": …}`; the gateway takes either, and puts its own token into the message that goes on.
"""

import asyncio
import json
import logging
from contextlib import suppress

import aiohttp

from services.admission import Header
from services.answers import Message, Receive, Refusal, Scope, Send, header
from services.gateway_door import Door, Visit, bearer, lookup
from services.gateway_matrix import Rule

LOG = logging.getLogger("roadworthy.gateway")

FIRST_MESSAGE_S = 10.0
CHECK_S = 2.0  # so often is asked whether the key still opens
MAX_MESSAGE_BYTES = 16_000_000
SUBPROTOCOL = "prefect"
NOT_ALLOWED, TRY_LATER = 1008, 1013


async def bridge(
    door: Door, visit: Visit, rule: Rule, scope: Scope, receive: Receive, send: Send,
    session: aiohttp.ClientSession, url: str, token: str,
) -> None:  # fmt: skip
    """Admit, connect behind, and carry messages both ways until one side ends or the key does."""
    if (await receive())["type"] != "websocket.connect":
        return
    wanted = lookup(scope)
    is_shown = bool(wanted("authorization") or wanted("x-api-key"))
    try:
        if is_shown:
            await door.admit(visit, scope, rule)
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if _offers(scope) else None})
        first = await asyncio.wait_for(receive(), FIRST_MESSAGE_S)
        if not is_shown:
            wanted = _shown(first)
            await door.admit(visit, scope, rule, wanted)
    except (Refusal, TimeoutError):
        with suppress(RuntimeError):  # the client may be gone already
            await send({"type": "websocket.close", "code": NOT_ALLOWED, "reason": "not allowed"})
        return
    visit.status = 101
    door.answered(visit)
    address = "ws" + url.removeprefix("http")
    try:
        async with session.ws_connect(address, protocols=(SUBPROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES) as behind:
            await behind.send_str(_own(first, token))
            await _carry(door, visit, wanted, receive, send, behind)
    except (aiohttp.ClientError, OSError) as error:
        LOG.warning("prefect's socket: %s", error)
        with suppress(RuntimeError):
            await send({"type": "websocket.close", "code": TRY_LATER, "reason": "prefect does not answer"})


async def _carry(
    door: Door, visit: Visit, wanted: Header, receive: Receive, send: Send, behind: aiohttp.ClientWebSocketResponse
) -> None:
    tasks = [
        asyncio.create_task(_in(receive, behind)),
        asyncio.create_task(_out(behind, send)),
        asyncio.create_task(_until_invalid(door, visit, wanted, send)),
    ]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _in(receive: Receive, behind: aiohttp.ClientWebSocketResponse) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await behind.send_str(message["text"])
        else:
            await behind.send_bytes(message["bytes"])


async def _out(behind: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in behind:
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
    await send({"type": "websocket.close", "code": _passable(behind.close_code)})


async def _until_invalid(door: Door, visit: Visit, wanted: Header, send: Send) -> None:
    while await door.still_valid(visit, wanted):
        await asyncio.sleep(CHECK_S)
    await send({"type": "websocket.close", "code": NOT_ALLOWED, "reason": "the key is not accepted any more"})


def _passable(code: int | None) -> int:
    """1005 and 1006 say that there was none, and may not be sent (RFC 6455, 7.4.1)."""
    return code if code is not None and code not in (1005, 1006, 1015) else 1000


def _offers(scope: Scope) -> bool:
    return SUBPROTOCOL in scope.get("subprotocols", ()) or SUBPROTOCOL.encode() in header(
        scope, b"sec-websocket-protocol"
    )


def _shown(first: Message) -> Header:
    """The credential of the first message: a key, or Prefect's `user:key`."""
    said = _parsed(first)
    token = said.get("token") if said.get("type") == "auth" else ""
    return bearer(str(token or "").rpartition(":")[2])


def _own(first: Message, token: str) -> str:
    """The first message with the gateway's token in place of the caller's; anything else goes on as it is."""
    said = _parsed(first)
    return json.dumps({**said, "token": token}) if said.get("type") == "auth" else str(first.get("text") or "")


def _parsed(message: Message) -> dict[str, object]:
    try:
        found = json.loads(message.get("text") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
