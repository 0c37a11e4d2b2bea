"""The loop: resume after a kill, early stop, schedules, refusals."""

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import catalog
from models.recipe import TrainRecipe
from models.training.build import build_network
from models.training.checkpoint import CHECKPOINT, CheckpointError, load_weights, read_history
from models.training.loop import train
from models.training.objective import TaskLoss
from models.training.optimise import build_optimizer, learning_rate, load_optimizer, optimizer_tensors
from models.training.tensors import choose_device

PROGRAM = Path(__file__).with_name("killed_run.py")
REPOSITORY = Path(__file__).parents[3]
MLP = catalog.family("classify", "mlp")


@pytest.mark.services  # no server, but as slow: torch is imported once more
def test_killed_run_ends_with_the_same_bytes(tmp_path: Path):
    command = [sys.executable, str(PROGRAM), str(tmp_path / "killed"), "2"]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / CHECKPOINT).is_file() and not (tmp_path / "killed" / "done.json").exists()
    run = runpy.run_path(str(PROGRAM))["run"]
    run(tmp_path / "killed", 0)
    run(tmp_path / "whole", 0)
    killed, whole = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole
    histories = [read_history(tmp_path / name) for name in ("killed", "whole")]
    losses = [[(epoch.number, epoch.train_loss, epoch.val_loss) for epoch in history] for history in histories]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def fit(tiny, folder: Path, **settings):
    card = MLP
    network = build_network(card, tiny.shape, card.config(width=16), seed=1)
    recipe = TrainRecipe(**{"num_epochs": 3, "loss": "cross_entropy", **settings})
    objective = TaskLoss("classify", "cross_entropy")
    return network, list(train(network, objective, tiny.train, tiny.val, recipe, folder))


def test_finished_folder_yields_nothing_and_gives_its_weights(digits, tmp_path: Path):
    trained, epochs = fit(digits, tmp_path)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    again, none = fit(digits, tmp_path)
    assert none == []
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_another_recipe_is_refused(digits, tmp_path: Path):
    card = MLP
    network = build_network(card, digits.shape, card.config(width=16))
    objective = TaskLoss("classify", "cross_entropy")
    recipe = TrainRecipe(num_epochs=3, loss="cross_entropy")
    next(train(network, objective, digits.train, digits.val, recipe, tmp_path))
    with pytest.raises(CheckpointError, match="expected a checkpoint of"):
        list(train(network, objective, digits.train, digits.val, recipe.model_copy(update={"seed": 9}), tmp_path))


def test_stops_early_and_keeps_the_best(digits, tmp_path: Path):
    network, epochs = fit(digits, tmp_path, num_epochs=40, patience=2, learning_rate=0.3, optimizer="sgd")
    best = max(epoch.number for epoch in epochs if epoch.is_best)
    assert len(epochs) == min(40, best + 2)
    assert min(epochs, key=lambda epoch: epoch.val_loss).number == best
    other = build_network(MLP, digits.shape, MLP.config(width=16), seed=8)
    load_weights(other, tmp_path / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"optimizer": "adam", "schedule": "step"}])
def test_recipe_settings_train(digits, tmp_path: Path, settings):
    _, epochs = fit(digits, tmp_path, **settings)
    assert epochs[-1].train_loss < epochs[0].train_loss


@pytest.mark.services  # a compiler is no server, but as slow
def test_compiled_network_trains_and_is_given_back(digits, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    network, epochs = fit(digits, tmp_path / "run", compile=True, num_epochs=2)
    _, expected = fit(digits, tmp_path / "eager", num_epochs=2)
    assert "forward_hidden" not in vars(network)
    assert epochs[-1].val_loss == pytest.approx(expected[-1].val_loss, rel=1e-3)


def test_diverging_loss_is_refused(digits, tmp_path: Path):
    with pytest.raises(FloatingPointError, match=r"train\.learning_rate"):
        fit(digits, tmp_path, optimizer="sgd", learning_rate=1e30, momentum=0.0, clip_norm=1e30)


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="cross_entropy"):
        TaskLoss("forecast", "cross_entropy")


def test_wish_for_a_gpu_is_refused_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # also where there is one
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="expected a CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "step"])
def test_schedules_stay_between_nothing_and_the_peak(schedule):
    recipe = TrainRecipe(schedule=schedule, learning_rate=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(101)]
    assert max(rates) <= 0.1 + 1e-12 and min(rates) > 0
    assert rates[-1] == pytest.approx({"constant": 0.1}.get(schedule, 0.001))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_optimiser_state_goes_through_flat_tensors(optimizer):
    layers = [torch.nn.Linear(3, 2) for _ in range(2)]
    first, second = (build_optimizer(TrainRecipe(optimizer=optimizer), layer.parameters()) for layer in layers)

    def step(layer: torch.nn.Linear, chosen: torch.optim.Optimizer) -> None:
        chosen.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        chosen.step()

    for _ in range(2):
        step(layers[0], first)
    layers[1].load_state_dict(layers[0].state_dict())
    load_optimizer(second, optimizer_tensors(first))
    step(layers[0], first)
    step(layers[1], second)
    assert torch.equal(layers[0].weight, layers[1].weight)
