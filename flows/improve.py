"""Improves a policy in closed loop: CMA-ES over its weights, judged by simulated traffic.

Hansen and Ostermeier: Completely derandomized self-adaptation in evolution strategies, Evolutionary Computation 9(2),
2001, by the library `cma`. All members of a generation drive the same traffic (common random numbers), every generation
another; the traffic of validation decides whether the result, or what it started from, is kept.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cma
import numpy as np
from numpy.typing import NDArray

from flows.closed_loop import Run, drive, need_simulator
from flows.closed_loop_control import Rows, code_digest
from flows.options import UsageError
from flows.steps import key_of
from infra.atomic import write_atomic
from infra.sumo_grid_scenario import LEVELS, GridScenario
from infra.sumo_signals import episode

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flows.session import Session
    from flows.train import Variant

WORK = "flows.improve:try_member"
STATE, START = "improve.json", "before_improvement.safetensors"
FIRST_SEED, FIRST_VALIDATION_SEED = 500_000, 300_000  # apart from each other's, the demonstrations' and the gate's
# As long as the gate's: a search on 10 min found weights that were the best there, and broke down in the queues of 30.
MINUTES, DRAIN_MIN, NUM_VALIDATION = 30, 20, 4
Vector = NDArray[np.float64]


def improve(session: "Session", variant: "Variant", network: "nn.Module", folder: Path) -> dict[str, float]:
    """Search on from the fitted `network`, and leave the better of start and result in it; returns what it noted.

    After every generation what was found is in `folder`/improve.json: a killed search goes on behind it. Raises
    UsageError for a family that names nothing to search over, and without SUMO.
    """
    from models.training.checkpoint import load_weights, write_weights

    recipe = session.recipe
    need_simulator(recipe)
    names = _evolvable(network, recipe.name)
    if not (folder / START).exists():
        write_weights(folder / START, network)
    load_weights(network, folder / START)
    start = _vector(network, names)
    base = {"policy": _policy_of(session, variant), "digest": key_of((folder / START).read_bytes().hex())}
    place = {"weights": str(folder / START), "names": list(names)}
    cache_folder = session.shop.home / "cache" / "closed_loop"

    def losses(members: Sequence[Vector], traffic: Sequence[tuple[int, str, int]]) -> Vector:
        """Mean logarithm of the time loss of each member: a second counts for more where losses are small."""
        runs = [
            Run(WORK, {**base, "seed": seed, "level": level, "minutes": minutes, "member": [float(x) for x in member]},
                place, code_digest())
            for member in members for seed, level, minutes in traffic
        ]  # fmt: skip
        found = {}
        for _, rows in drive(runs, cache_folder):
            for row in rows:
                found[row.controller, row.seed, row.scenario] = row.value
        return np.array([
            np.mean([np.log(found[_label(member), seed, level]) for seed, level, _ in traffic]) for member in members
        ])  # fmt: skip

    best = _search(session, len(start), folder, lambda steps, traffic: losses([start + s for s in steps], traffic))
    validation = [(FIRST_VALIDATION_SEED + i, level, MINUTES) for i in range(NUM_VALIDATION) for level in LEVELS]
    before, after = losses([start, start + best], validation)
    kept = start + best if after < before else start
    _put(network, names, kept)
    return {"improved": float(after < before), "val_log_loss_before": float(before), "val_log_loss_after": float(after)}


def _search(
    session: "Session", num_parameters: int, folder: Path, losses: Callable[[Sequence[Vector], Any], Vector]
) -> Vector:
    """The mean of the last generation, as a step from the start. What was told before a kill is told again."""
    rules = session.recipe.improve
    random = np.random.default_rng(rules.seed)
    options: dict[str, Any] = {"popsize": rules.population, "verbose": -9, "seed": rules.seed + 1}
    options["randn"] = lambda *size: random.standard_normal(size)  # what is drawn depends on nobody else's draws
    strategy = cma.CMAEvolutionStrategy(np.zeros(num_parameters), rules.step_size, options)
    state = folder / STATE
    told: list[list[float]] = json.loads(state.read_text()) if state.exists() else []
    for generation in range(rules.num_generations):
        members = strategy.ask()
        if generation >= len(told):
            first = FIRST_SEED + generation * rules.num_seeds
            levels = tuple(LEVELS)
            traffic = [(first + i, levels[(generation + i) % len(levels)], MINUTES) for i in range(rules.num_seeds)]
            told.append([float(x) for x in losses(members, traffic)])
            write_atomic(state, json.dumps(told).encode())
        strategy.tell(members, told[generation])
        note = (
            f"generation {generation + 1}/{rules.num_generations}, time loss {np.exp(np.min(told[generation])):.1f} s"
        )
        session.watch("improve in closed loop", (generation + 1) / rules.num_generations, note)
    return np.asarray(strategy.mean, np.float64)


def try_member(
    policy: Mapping[str, Any], digest: str, seed: int, level: str, minutes: int, member: Sequence[float],
    weights: str, names: Sequence[str],
) -> Rows:  # fmt: skip
    """One episode under the network with these values in the parameters `names`."""
    import torch

    network = _network(json.dumps(policy, sort_keys=True), weights, digest)
    _put(network, names, np.asarray(member))

    def choose(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        with torch.inference_mode():
            return np.asarray(network(observation=torch.from_numpy(observation)).argmax(dim=1).numpy())

    done = episode(GridScenario(seed, level, minutes, DRAIN_MIN), policy=choose)
    return [(level, seed, _label(member), round(done.mean_time_loss_s, 4))]


@cache
def _network(policy: str, weights: str, digest: str) -> "nn.Module":  # noqa: ARG001 - the digest tells weights apart
    import torch

    from models import catalog
    from models.data.card import TensorSpec
    from models.data.shape import TensorShape
    from models.training.build import build_network
    from models.training.checkpoint import load_weights

    torch.set_num_threads(1)
    told = json.loads(policy)
    card = catalog.family("control", told["family"])
    inputs = tuple(TensorSpec.model_validate(item) for item in told["inputs"])
    shape = TensorShape(inputs, TensorSpec.model_validate(told["output"]))
    network = build_network(card, shape, card.config.model_validate(told["config"]))
    load_weights(network, Path(weights))
    return network.eval()


def _policy_of(session: "Session", variant: "Variant") -> dict[str, Any]:
    shape: Any = session.snapshot.shape
    return {
        "family": variant.family,
        "config": variant.config.model_dump(mode="json"),
        "inputs": [spec.model_dump(mode="json") for spec in shape.inputs],
        "output": shape.output.model_dump(mode="json"),
    }


def _evolvable(network: "nn.Module", name: str) -> tuple[str, ...]:
    inner: Any = network.get_submodule("network")
    if not hasattr(inner, "evolvable"):
        raise UsageError(
            f"{name}: this family names nothing to search over; leave it at --set improve.num_generations=0"
        )
    return tuple(f"network.{one}" for one in inner.evolvable())


def _parameters(network: "nn.Module", names: Sequence[str]) -> "list[torch.Tensor]":
    by_name = dict(network.named_parameters())
    return [by_name[name] for name in names]


def _vector(network: "nn.Module", names: Sequence[str]) -> Vector:
    return np.concatenate([one.detach().numpy().astype(np.float64).ravel() for one in _parameters(network, names)])


def _put(network: "nn.Module", names: Sequence[str], vector: Vector) -> None:
    import torch

    place = 0
    with torch.no_grad():
        for one in _parameters(network, names):
            values = torch.as_tensor(vector[place : place + one.numel()], dtype=one.dtype)
            one.copy_(values.reshape(one.shape))
            place += one.numel()


def _label(member: Sequence[float] | Vector) -> str:
    """A member's name in the rows."""
    return key_of([float(x) for x in member])[:12]
