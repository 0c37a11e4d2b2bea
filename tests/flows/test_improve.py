"""Signal policies between simulator and network: the same choices in both, and a search that survives a kill."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flows import improve
from flows.closed_loop import need_simulator
from flows.closed_loop_control import plan
from flows.options import UsageError
from infra.sumo_junctions import OBSERVED, PHASES
from infra.sumo_plans import CONTROLLERS
from infra.sumo_rules import max_pressure, priority
from models import catalog
from models.data.shape import TensorShape
from models.datasets import grid_signals
from models.recipe import build
from models.training.build import build_network

CONTRACT = grid_signals.CARD.contract
SHAPE = TensorShape(CONTRACT.inputs, CONTRACT.target)  # type: ignore[arg-type]


def session_of(folder: Path, **settings: object) -> SimpleNamespace:
    recipe = build("control/priority", grid_signals.CARD, settings)
    shop, snapshot = SimpleNamespace(home=folder), SimpleNamespace(shape=SHAPE)
    return SimpleNamespace(recipe=recipe, shop=shop, snapshot=snapshot, watch=lambda *_: None)


def observations(num: int = 300) -> np.ndarray:
    random = np.random.default_rng(0)
    found = random.integers(0, 12, (num, len(OBSERVED))).astype(np.float32)
    first = OBSERVED.index("shows_north_south")
    found[:, first : first + len(PHASES)] = np.eye(len(PHASES))[random.integers(0, len(PHASES), num)]
    return found


def test_simulator_and_data_set_speak_of_the_same() -> None:
    assert grid_signals.OBSERVED == OBSERVED
    assert tuple(PHASES) == grid_signals.PHASES


def test_the_plan_drives_everybody_seed_by_seed(tmp_path: Path) -> None:
    made = plan(session_of(tmp_path), "teacher", tmp_path / "parcel", "abc", [9000, 9001])  # type: ignore[arg-type]
    assert made.references == CONTROLLERS
    assert [run.arguments["seed"] for run in made.runs] == [9000] * 10 + [9001] * 10
    assert len({run.key for run in made.runs}) == 20


def test_a_rule_is_not_held_against_itself(tmp_path: Path) -> None:
    made = plan(session_of(tmp_path), "max_pressure", tmp_path / "parcel", "abc", [9000])  # type: ignore[arg-type]
    assert "max_pressure" not in made.references
    assert len({(run.arguments["level"], run.arguments["name"]) for run in made.runs}) == len(made.runs)


@pytest.mark.parametrize("first", [1, 995, 99_999])
def test_seeds_that_somebody_has_seen_are_refused(first: int) -> None:
    recipe = build("control/priority", grid_signals.CARD, {"judge.closed_loop_first_seed": first})
    with pytest.raises(UsageError, match="expected seeds from 1000 to 99999"):
        need_simulator(recipe)


@pytest.mark.families
@pytest.mark.parametrize("name", ["priority", "max_pressure"])
def test_the_network_and_the_rule_choose_the_same_phase(name: str) -> None:
    card = catalog.family("control", name)
    network = card.load()(SHAPE, card.config())
    seen = observations()
    rule = max_pressure(seen) if name == "max_pressure" else priority(seen, card.config().weights)
    assert (network(observation=torch.from_numpy(seen)).argmax(dim=1).numpy() == rule).all()


@pytest.mark.families
def test_a_family_with_nothing_to_search_over_is_refused(tmp_path: Path) -> None:
    card = catalog.family("control", "max_pressure")
    network = build_network(card, SHAPE, card.config())
    session = session_of(tmp_path, **{"improve.num_generations": 1})
    with pytest.raises(UsageError, match="names nothing to search over"):
        improve.improve(session, SimpleNamespace(), network, tmp_path)  # type: ignore[arg-type]


@pytest.mark.sim
def test_a_search_keeps_the_better_and_tells_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improve, "MINUTES", 1)
    monkeypatch.setattr(improve, "NUM_VALIDATION", 1)
    settings = {"improve.num_generations": 1, "improve.population": 4, "improve.num_seeds": 1}
    session, card = session_of(tmp_path, **settings), catalog.family("control", "priority")
    variant = SimpleNamespace(family="priority", config=card.config())
    network = build_network(card, SHAPE, card.config())
    figures = improve.improve(session, variant, network, tmp_path)  # type: ignore[arg-type]
    [told] = json.loads((tmp_path / improve.STATE).read_text())
    assert len(told) == 4
    offset = network.get_parameter("network.offset").detach()
    assert bool(offset.any()) == bool(figures["improved"])
    assert figures["improved"] == (figures["val_log_loss_after"] < figures["val_log_loss_before"])
    again = build_network(card, SHAPE, card.config())
    assert improve.improve(session, variant, again, tmp_path) == figures  # type: ignore[arg-type]
    assert torch.equal(again.get_parameter("network.offset").detach(), offset)
