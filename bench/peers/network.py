"""The same model as a torch module, as the peers that serve torch load it.

`BENCH_MODEL` names a folder with `snapshot/`, `config.json` and `weights.safetensors`, which `bench.serving` makes.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch

from models import catalog
from models.data.snapshot import read_snapshot
from models.training.build import build_network
from models.training.loop import load_weights


def load() -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network in eval mode, and the facts that a request is read by."""
    torch.set_num_threads(1)
    folder = Path(os.environ["BENCH_MODEL"])
    facts = json.loads((folder / "config.json").read_text())
    card = catalog.family("forecast", facts["family"])
    snapshot = read_snapshot(Path(facts["snapshot"]))
    config = type(card.config()).model_validate(facts["config"])
    network = build_network(card, snapshot.shape, config, snapshot.manifest.scaler, 0)
    load_weights(network, Path(facts["weights"]))
    return network.eval(), facts


def tensors(rows: list[dict[str, Any]], facts: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, mask and clock of windows {"time", "values"}, as a tutorial would write it: no checks."""
    from datetime import datetime

    x = torch.tensor([row["values"] for row in rows], dtype=torch.float32).reshape(len(rows), *facts["window"])
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    slots = [int((time.hour * 60 + time.minute) // facts["cadence_min"]) for time in times]
    clock = torch.tensor([[slot, time.weekday()] for slot, time in zip(slots, times, strict=True)])
    return x, torch.ones_like(x), clock
