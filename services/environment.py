"""What this process is made of, as far as it can change an answer, and its digest.

Written beside captured predictions and asked again by `reproduce`: two answers that differ under equal facts are a
defect, under different facts they are explained.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from models.artifact import ensemble, predictor, tensors

# Of the processor's abilities, those by which numeric libraries choose their kernels.
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "sve", "i8mm")
COMPUTING = (ensemble, predictor, tensors)  # what stands between checked inputs and the answer's numbers


@cache
def environment() -> Mapping[str, str]:
    """Versions, processor and code of this process; nothing in it names a person, a host or a path."""
    model, features = _processor(Path("/proc/cpuinfo"))
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "providers": "CPUExecutionProvider",  # what models.artifact.predictor opens its sessions with
        "system": platform.system(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "machine": platform.machine(),
        "processor": model,
        "processor_features": features,
        "code": code_digest(),
    }


def digest(facts: Mapping[str, str]) -> str:
    """SHA-256 of the facts, 32 hex digits."""
    text = json.dumps(dict(facts), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The facts that are not the same: then and now; empty where one side has none."""
    names = sorted({*then, *now})
    return {name: (then.get(name, ""), now.get(name, "")) for name in names if then.get(name) != now.get(name)}


@cache
def code_digest() -> str:
    """SHA-256 over the source of the modules that turn inputs into an answer, 32 hex digits."""
    whole = hashlib.sha256()
    for module in COMPUTING:
        whole.update(module.__name__.encode() + b"\0" + Path(module.__file__ or "").read_bytes() + b"\0")
    return whole.hexdigest()[:32]


def _processor(cpuinfo: Path) -> tuple[str, str]:
    """Model and the CPU_FEATURES it has; where the system does not tell, what Python knows."""
    if not cpuinfo.exists():
        return platform.processor() or "unknown", ""
    lines = [line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()]
    facts = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}  # the first processor's
    known = set((facts.get("flags") or facts.get("features") or "").split())
    model = facts.get("model name") or facts.get("cpu part") or "unknown"
    return model, " ".join(name for name in CPU_FEATURES if name in known)
