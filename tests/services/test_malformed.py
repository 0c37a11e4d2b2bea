"""Broken parcels and checkpoints, hundreds of them: each is refused with a reason; none crashes, leaks or is served."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from infra.settings import ServiceSettings
from models.artifact.manifest import hash_files, read_and_verify, write_manifest
from services.host import Host

OFF = ServiceSettings(signatures="off", auth="off")
HERE = Path(__file__).resolve().parents[2]


def broken(content: bytes, num_flips: int = 60) -> Iterator[bytes]:
    """Truncations, single bits flipped, and what is no such file at all."""
    random = np.random.default_rng(len(content))
    yield from (b"", b"\x00" * len(content), b"\xff" * 64, content + b"x", content * 2, b"{}", b"[]", b"null")
    yield from (content[: len(content) * part // 8] for part in range(1, 8))
    for place, bit in zip(random.integers(0, len(content), num_flips), random.integers(0, 8, num_flips), strict=True):
        changed = bytearray(content)
        changed[place] ^= 1 << int(bit)
        yield bytes(changed)


@pytest.mark.parametrize("task", ["forecast", "classify"])
@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "manifest.json", "card.md"])
def test_a_broken_file_of_a_parcel_is_never_served(
    served_folder: Callable[[str], Path], task: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = served_folder(task)
    path = folder / "parcel" / name
    whole = path.read_bytes()
    for content in broken(whole, 30):
        path.write_bytes(content)
        host = Host(folder, OFF)
        host.load()
        is_same = name == "manifest.json" and json_of(content) == json_of(whole)  # only its spelling differs
        assert (host.served is None and host.reason) or is_same, content[:60]
    path.write_bytes(whole)
    host.load()
    assert host.served


def json_of(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return content


def test_a_broken_release_never_serves_another_parcel(served_folder: Callable[[str], Path]) -> None:
    folder = served_folder("forecast")
    path = folder / "release.json"
    whole = path.read_bytes()
    digest = json.loads(whole)["parcel_digest"]
    for content in broken(whole, 100):
        path.write_bytes(content)
        host = Host(folder, OFF)
        host.load()
        assert host.reason if host.served is None else host.served.manifest.digest() == digest


TRY_EACH = """
import sys
from pathlib import Path
from infra.settings import ServiceSettings
from services.host import Host
num_served = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    host = Host(folder, ServiceSettings(signatures="off", auth="off"))
    host.load()
    num_served += host.served is not None
    assert host.served or host.reason, folder
print(num_served)
"""


def released_anew(folder: Path, target: Path, model: bytes) -> None:
    """The release in `folder` with another graph, as its owner would release it: every hash right."""
    (target / "parcel").mkdir(parents=True)
    for name in ("golden.json", "card.md", "manifest.json"):
        (target / "parcel" / name).write_bytes((folder / "parcel" / name).read_bytes())
    manifest = read_and_verify(folder / "parcel")
    (target / "parcel" / "model.onnx").write_bytes(model)
    digest = write_manifest(target / "parcel", manifest.model_copy(update={"files": hash_files(target / "parcel")}))
    release = json.loads((folder / "release.json").read_text())
    (target / "release.json").write_text(json.dumps({**release, "parcel_digest": digest}))


def try_each(folder: Path) -> int:
    """How many of the releases in `folder` a process of its own serves; it must come back to say so."""
    command = [sys.executable, "-c", TRY_EACH, str(folder)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])  # ONNX Runtime has its say before


@pytest.mark.parametrize("task", ["forecast", "classify"])
def test_graphs_that_only_the_golden_request_can_find_out(
    served_folder: Callable[[str], Path], tmp_path: Path, task: str
) -> None:
    folder = served_folder(task)
    whole = (folder / "parcel" / "model.onnx").read_bytes()
    for number, content in enumerate(broken(whole, 100)):
        released_anew(folder, tmp_path / "broken" / f"{number:03}", content)
    num_tried = len(list((tmp_path / "broken").iterdir()))
    assert try_each(tmp_path / "broken") < num_tried / 2  # those that are served answer the golden request


def graph_with(node: onnx.NodeProto, initializer: onnx.TensorProto | None = None, domain: str = "") -> bytes:
    window = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 1, 3, 3])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "evil", [window], [answer], [initializer] if initializer else [])
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def evil_graphs(secret: Path) -> Iterator[bytes]:
    """Graphs that would read a file of this machine, run code of their own, or eat all memory."""
    for location in (
        str(secret),
        f"../{secret.name}",
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "/proc/self/environ",
    ):
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="length", value="16")
        yield graph_with(helper.make_node("Identity", ["w"], ["y"]), tensor)
    yield graph_with(helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib"), domain="ai.onnx.contrib")
    yield graph_with(helper.make_node("System", ["x"], ["y"], domain="evil"), domain="evil")
    huge = helper.make_tensor("shape", TensorProto.INT64, [2], [2**40, 2**20])
    yield graph_with(helper.make_node("ConstantOfShape", ["shape"], ["y"]), huge)
    yield graph_with(helper.make_node("Identity", ["nowhere"], ["y"]))


def test_graphs_that_reach_for_files_code_or_memory_are_refused(
    served_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    folder = served_folder("classify")
    for number, content in enumerate(evil_graphs(secret)):
        released_anew(folder, tmp_path / "evil" / f"{number:03}", content)
    assert try_each(tmp_path / "evil") == 0


def test_what_is_beside_the_files_of_a_parcel_is_never_followed(
    served_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = served_folder("forecast")
    model = folder / "parcel" / "model.onnx"
    aside = tmp_path / "aside.onnx"
    model.rename(aside)
    for make in (
        lambda: model.mkdir(),
        lambda: model.symlink_to(tmp_path / "nowhere"),
        lambda: model.symlink_to("/dev/null"),
    ):
        make()
        host = Host(folder, OFF)
        host.load()
        assert host.served is None and host.reason
        model.rmdir() if model.is_dir() else model.unlink()
    (folder / "parcel" / "manifest.json").write_text('{"files": ' + "[" * 100_000)
    host.load()
    assert host.served is None


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors import SafetensorError

    from models.training.checkpoint import CHECKPOINT, Checkpoint, CheckpointError, read_checkpoint, write_checkpoint

    write_checkpoint(tmp_path, Checkpoint("recipe", (), {"model": {"w": torch.ones(3, 4), "b": torch.zeros(3)}}))
    whole = (tmp_path / CHECKPOINT).read_bytes()
    random, num_refused = np.random.default_rng(1), 0
    variants = [whole[: len(whole) * part // 8] for part in range(8)]
    variants += [(2**63).to_bytes(8, "little") + whole[8:], (10**9).to_bytes(8, "little") + whole[8:], b"\xff" * 64]
    variants += [
        whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        for place in random.integers(0, len(whole), 60)
    ]
    for content in variants:
        (tmp_path / CHECKPOINT).write_bytes(content)
        try:
            read_checkpoint(tmp_path, "recipe")
        except (SafetensorError, CheckpointError, ValueError, KeyError, TypeError):
            num_refused += 1
    assert num_refused > len(variants) // 2
