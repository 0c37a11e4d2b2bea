"""What the router passes on over gRPC: who asks, as it sees it, and nothing that a client says of itself."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import grpc
import pytest

from infra.settings import ServiceSettings
from services.quotas import Proxies
from services.router_config import Backend, RouterConfig
from services.router_grpc import start_grpc
from services.router_guard import Watch
from services.router_pool import Pool
from tests.services.test_router import free_port


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call with its metadata as JSON."""

    def service(self, _details: Any) -> Any:
        async def answer(_request: bytes, context: Any) -> bytes:
            return json.dumps({name: str(value) for name, value in context.invocation_metadata()}).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


def test_the_router_says_who_asks_over_grpc() -> None:
    told = asyncio.run(asked((("x-forwarded-for", "8.8.8.8"), ("x-roadworthy-shadow", "1"), ("x-tenant", "north"))))
    assert (told["x-forwarded-for"], told["x-tenant"]) == ("127.0.0.1", "north")
    assert "x-roadworthy-shadow" not in told


async def asked(metadata: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The metadata that a replica behind the router gets of a call with `metadata`."""
    ports = free_port(), free_port()
    replica = grpc.aio.server()
    replica.add_generic_rpc_handlers((Echo(),))
    replica.add_insecure_port(f"127.0.0.1:{ports[0]}")
    await replica.start()
    async with aiohttp.ClientSession() as session:
        pool = Pool(RouterConfig(), session)
        backend = Backend(name="v1-0", url="http://127.0.0.1:1", grpc=f"127.0.0.1:{ports[0]}", group="v1", weight=1)
        await pool.apply(RouterConfig(backends=(backend,)), ())
        pool.upstreams["v1-0"].is_ready = True
        router = await start_grpc(pool, Watch(time.monotonic), ServiceSettings(), "127.0.0.1", ports[1])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
            answer: bytes = await channel.unary_unary("/any.Service/Method")(b"", metadata=metadata, timeout=30)
        await router.stop(0)
        await pool.upstreams["v1-0"].close()
    await replica.stop(0)
    return dict(json.loads(answer))


def test_a_proxy_is_believed_where_it_is_named() -> None:
    proxies = Proxies("10.88.0.1, 192.168.0.0/24")
    for proxy in ("127.0.0.1", "::1", "10.88.0.1", "192.168.0.7"):
        assert proxies.client(proxy, "1.2.3.4, 5.6.7.8") == "5.6.7.8"  # the last one is who spoke to the proxy
    for other in ("10.88.0.2", "8.8.8.8", "local", ""):
        assert proxies.client(other, "5.6.7.8") == other
    assert proxies.client("10.88.0.1", "") == "10.88.0.1" and Proxies().client("10.88.0.1", "5.6.7.8") == "10.88.0.1"
    with pytest.raises(ValueError, match="nonsense"):
        Proxies("nonsense")
