"""Closed-loop load over gRPC, in a process of its own: each client sends its next call when the last one is answered.

python -m bench.load_grpc --address 127.0.0.1:3001 --body request.bin --clients 8 --seconds 5
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from bench.load import PERCENTILES, percentile

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def run(address: str, body: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """Requests a second and percentiles; the messages pass as bytes, as the service is measured and not protobuf."""
    latencies: list[float] = []
    deadline = time.perf_counter() + seconds

    async def client() -> None:
        async with grpc.aio.insecure_channel(
            address, options=[*LIMIT, ("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(METHOD)
            while (began := time.perf_counter()) < deadline:
                await call(body)
                latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.perf_counter() - began
    ranked = sorted(latencies)
    found = {f"p{share:g}_ms": percentile(ranked, share) for share in PERCENTILES}
    return {"requests_per_s": len(ranked) / spent, **found}


def main() -> None:
    """Measure once and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    found = uvloop.run(run(options.address, options.body.read_bytes(), options.clients, options.seconds))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
