"""A person with a key and a browser gets to the page; another site's page gets nothing done through it."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.api_keys import KeyFile, issue
from infra.ledger import utc_now
from infra.settings import ServiceSettings
from services.admission import open_guard
from services.guard import GuardLayer


async def page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def ask(tmp_path: Path, method: str, path: str, password: str, **headers: str) -> httpx.Response:
    """The answer to a browser that sends this password; `KEY` stands for a valid key."""
    record, key = issue("person", ["read", "operate"], utc_now())
    KeyFile(tmp_path / "keys.json").add(record)
    settings = ServiceSettings(keys_file=tmp_path / "keys.json")
    layer = GuardLayer(page, open_guard(settings, "127.0.0.1", None, default_model=lambda tenant: "tiny"))
    sent = base64.b64encode(f"somebody:{password.replace('KEY', key)}".encode()).decode()

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=layer)
        async with httpx.AsyncClient(transport=transport, base_url="http://tiny") as client:
            return await client.request(method, path, headers={"authorization": f"Basic {sent}", **headers})

    return asyncio.run(answer())


def test_the_key_is_the_password(tmp_path: Path) -> None:
    assert ask(tmp_path, "GET", "/", "KEY").text == "page"


@pytest.mark.parametrize("password", ["", "wrong", "rw_00000000_wrong"])
def test_a_browser_without_the_key_is_asked_for_it(tmp_path: Path, password: str) -> None:
    refused = ask(tmp_path, "GET", "/", password)
    assert refused.status_code == 401
    assert any(value.startswith("Basic") for value in refused.headers.get_list("www-authenticate"))


def test_another_site_may_not_operate_through_it(tmp_path: Path) -> None:
    assert ask(tmp_path, "POST", "/admin/swap", "KEY").status_code == 200
    assert ask(tmp_path, "POST", "/admin/swap", "KEY", origin="http://elsewhere").status_code == 403
