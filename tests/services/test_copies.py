"""A copy made by our own tools is not captured; a stranger cannot pass his question off as one."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.settings import ServiceSettings
from services.assemble import assemble
from services.copies import MARK


@pytest.mark.parametrize(("client", "num_captured"), [("127.0.0.1", 0), ("10.0.0.9", 0), ("192.0.2.7", 1)])
def test_only_this_machine_and_named_proxies_mark_copies(
    served_folder: Callable[[str], Path], window: Any, tmp_path: Path, client: str, num_captured: int
) -> None:
    spool = tmp_path / "spool"
    settings = ServiceSettings(auth="off", signatures="off", capture_folder=spool, proxies="10.0.0.9")
    assembled = assemble(served_folder("forecast"), settings)

    async def ask() -> dict[str, int]:
        assembled.host.load()
        transport = httpx.ASGITransport(app=assembled.app, client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://tiny") as session:
            body = json.dumps({"data": window})
            assert (await session.post("/predict", content=body, headers={MARK: "1"})).status_code == 200
        text = assembled.metrics.exposition().decode()
        lines = [line for line in text.splitlines() if line.startswith("roadworthy_captured_total")]
        return {line.partition('state="')[2].partition('"')[0]: int(float(line.rpartition(" ")[2])) for line in lines}

    assert asyncio.run(ask())["accepted"] == num_captured
