"""Whether a service stays flat: memory, descriptors and sockets, minute by minute, under a steady mixed load.

The load is half of what one connection can have, with reconnects, refused bodies, binary tensors and gRPC among it.

    .venv/bin/python -m bench.soak --minutes 20
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import psutil
import uvloop

from bench.contestants import Model, contestants, ours_body, started
from bench.load_grpc import METHOD
from bench.prepared import prepare
from bench.protocols import bodies
from flows.workshop import open_workshop
from models.artifact.manifest import read_and_verify

PAUSE_S = 0.002
ROWS = 23  # 100 kB of tensors


def sample(process: psutil.Process) -> dict[str, float]:
    """What the process holds now."""
    memory = process.memory_full_info()
    links = process.net_connections(kind="tcp")
    return {
        "rss_mb": memory.rss / 1e6,
        "uss_mb": memory.uss / 1e6,
        "descriptors": process.num_fds(),
        "sockets": len(links),
    }


async def load(url: str, grpc_port: int, model: Model, deadline: float, counts: Counter[str]) -> None:
    """Ask in every way in turn until the deadline; a new connection every thousand rounds."""
    manifest = read_and_verify(model.parcel)
    _, v2_body, head_bytes, grpc_body = bodies(manifest, model, ROWS)
    one = json.dumps(ours_body(model, 1)).encode()
    infer = f"{url.rpartition('/')[0]}/v2/models/{manifest.product}/infer"
    binary = {"Inference-Header-Content-Length": str(head_bytes), "Content-Type": "application/octet-stream"}
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
    call = channel.unary_unary(METHOD)
    while time.monotonic() < deadline:
        async with aiohttp.ClientSession() as session:
            for _ in range(1000):
                if time.monotonic() > deadline:
                    break
                for path, body, headers in ((url, one, {}), (infer, v2_body, binary), (url, b'{"data": NaN}', {})):
                    async with session.post(
                        path, data=body, headers=headers or {"Content-Type": "application/json"}
                    ) as got:
                        counts[str(got.status)] += 1
                        await got.read()
                await call(grpc_body)
                counts["grpc"] += 1
                await asyncio.sleep(PAUSE_S)
    await channel.close()


async def soak(url: str, grpc_port: int, model: Model, process: psutil.Process, minutes: float) -> dict[str, Any]:
    """A row a minute, the first after a warm-up of one."""
    counts: Counter[str] = Counter()
    deadline = time.monotonic() + 60 * minutes
    task = asyncio.create_task(load(url, grpc_port, model, deadline, counts))
    rows = []
    while time.monotonic() < deadline - 1:
        await asyncio.sleep(min(60.0, max(deadline - time.monotonic() - 0.5, 0.1)))
        rows.append({**sample(process), "answered": sum(counts.values())})
        print(json.dumps(rows[-1]), file=sys.stderr)
    await task
    growth = {name: rows[-1][name] - rows[0][name] for name in ("rss_mb", "uss_mb", "descriptors", "sockets")}
    return {"minutes": minutes, "statuses": dict(counts), "growth_after_first_minute": growth, "rows": rows}


def main() -> None:
    """Soak and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    shop = open_workshop()
    model = prepare(shop)
    ours = contestants(model, shop.home / "bench")[:1]
    with started(ours, Path(shop.home / "bench" / "logs")) as (running,):
        result = uvloop.run(soak(running.url, running.grpc_port, model, running.process, options.minutes))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
