"""Real torch modules become graphs that answer the same, or are refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.artifact.export import ExportError, export
from models.artifact.parcel import build_parcel
from models.data.snapshot import Snapshot
from models.recipe import Recipe


class Tiny(nn.Module):
    """Steps of the past to steps of the horizon, with an embedding of the slot."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Linear(4, 3)
        self.slot = nn.Embedding(48, 3)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        past = (x * mask)[..., 0].transpose(1, 2)  # [B, N, T]
        return self.steps(past).transpose(1, 2) + self.slot(clock[:, 0])[:, :, None]  # [B, H, N]


class Restless(Tiny):
    """Answers differently whenever it is asked."""

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        return super().forward(x, mask, clock) + (0.0 if torch.compiler.is_exporting() else 7.0)


@pytest.fixture
def inputs(toy_snapshot: Snapshot) -> dict[str, np.ndarray]:
    return toy_snapshot.samples("val").take(np.arange(64)).inputs


@pytest.mark.families
def test_graph_answers_like_eager_in_one_file_that_says_nothing_of_its_maker(
    inputs: dict[str, np.ndarray], tmp_path: Path, toy_snapshot: Snapshot, toy_recipe: Recipe
) -> None:
    torch.manual_seed(0)
    network = Tiny().train()
    first = export(network, inputs, tmp_path / "a" / "model.onnx")
    second = export(network, inputs, tmp_path / "b" / "model.onnx")
    content = (tmp_path / "a" / "model.onnx").read_bytes()

    assert network.training, "the module is left as it was"
    assert content == (tmp_path / "b" / "model.onnx").read_bytes(), "the same weights give the same bytes"
    assert first == second and first.num_bytes == len(content) and first.difference < 1e-5
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.onnx"], "no external data"
    assert b".py" not in content and b"stack_trace" not in content and str(tmp_path).encode() not in content

    model = onnx.load_from_string(content)
    assert [item.name for item in model.graph.input] == ["x", "mask", "clock"]
    session = onnxruntime.InferenceSession(content)
    for batch_size in (1, 5, 33):
        rows = {name: array[:batch_size] for name, array in inputs.items()}
        expected = network(**{name: torch.from_numpy(array) for name, array in rows.items()}).detach().numpy()
        np.testing.assert_allclose(session.run(None, rows)[0], expected, rtol=1e-4, atol=1e-3)

    for name in ("one", "two"):
        build_parcel(tmp_path / name, tmp_path / "a" / "model.onnx", toy_snapshot, toy_recipe, "tiny", 159, "abc")
    digests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two")]
    assert digests[0] == digests[1], "the same weights, recipe and data give the same parcel"


@pytest.mark.families
def test_graph_that_answers_otherwise_is_refused_with_numbers(inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"batch of 1: the graph differs from eager by 7, or .*% of the"):
        export(Restless(), inputs, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
