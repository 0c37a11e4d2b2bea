"""Fits every candidate of a recipe.

Baselines, teacher, hard-label student, distilled student, pruned student.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.session import Session
from flows.simulate import scenario_fingerprint
from flows.steps import Done, key_of, once
from infra.atomic import write_atomic
from models import catalog
from models.catalog import FamilyConfig
from models.recipe import Recipe, TrainRecipe, student_recipe

if TYPE_CHECKING:
    from torch import nn

CODE = ("data", "tasks", "families", "training", "compression")
PERMANENT = "permanent.safetensors"  # of a pruned network, its zeros written into the weights
BLEND = "blend.json"
Role = Literal["plain", "distilled", "pruned", "blend"]


@dataclass(frozen=True)
class Variant:
    """One candidate: a family with a configuration, and how it gets its weights.

    `origins` are fitted before it; it comes from the one with the least validation loss.
    """

    name: str
    family: str
    config: FamilyConfig
    train: TrainRecipe
    role: Role = "plain"
    origins: tuple[str, ...] = ()

    def params(self) -> dict[str, Any]:
        """What it is, as JSON."""
        train = self.train.model_dump(mode="json")
        return {
            "variant": self.name,
            "family": self.family,
            "model": self.config.model_dump(mode="json"),
            "train": train,
        }


def variants(recipe: Recipe) -> list[Variant]:
    """All candidates to fit, each after those it may come from.

    A baseline's recipe fits the baselines alone; the hard-label student is always there where students are.
    """
    card = catalog.family(recipe.task, recipe.family)
    found = [_baseline(recipe, name) for name, other in catalog.families(recipe.task).items() if other.is_baseline]
    if card.is_baseline:
        return found
    found.append(Variant("teacher", recipe.family, recipe.model, recipe.train))
    smallest: tuple[str, ...] = ("teacher",)
    if recipe.distil.enabled and recipe.student is not None:
        train = student_recipe(recipe.train, recipe.distil)
        found.append(Variant("student_hard", recipe.family, recipe.student, train))
        found.append(Variant("student_distilled", recipe.family, recipe.student, train, "distilled", ("teacher",)))
        smallest = ("student_hard", "student_distilled")
    if recipe.prune.enabled:
        origin = next(variant for variant in found if variant.name in smallest)
        tuned = {"num_epochs": recipe.prune.num_epochs, "learning_rate": recipe.prune.learning_rate}
        name = f"{smallest[0].partition('_')[0]}_pruned"
        found.append(
            Variant(name, recipe.family, origin.config, recipe.train.model_copy(update=tuned), "pruned", smallest)
        )
    if recipe.blend.enabled:
        members = tuple(variant.name for variant in found if variant.role != "pruned")
        found.append(Variant("blend", recipe.family, recipe.model, recipe.train, "blend", members))
    return found


def competitors(recipe: Recipe) -> set[str]:
    """Who may be promoted: everybody, or the baseline alone when the recipe is a baseline's."""
    return {recipe.family} if catalog.family(recipe.task, recipe.family).is_baseline else set()


def fit(session: Session, variant: Variant) -> Done:
    """The variant's weights, trained or found; killed, it goes on from its last checkpoint."""
    recipe, origin = session.recipe, best_fit(session, variant.origins)
    key = key_of(
        session.prepared.ref.digest,
        variant.params() | {"variant": variant.role},
        session.steps[f"fit {origin}"].key if origin else "",
        *([recipe.blend.model_dump(), *_keys(session, variant)] if variant.role == "blend" else []),
        recipe.distil.model_dump() if variant.role == "distilled" else "",
        recipe.prune.model_dump() if variant.role == "pruned" else "",
        catalog.code_digest(*CODE),
        *([recipe.improve.model_dump(), scenario_fingerprint({})] if _is_improved(recipe, variant) else []),
    )

    def compute(folder: Path) -> dict[str, Any]:
        with session.tracked(f"fit {variant.name}", key, variant.params()) as run:
            is_blend = variant.role == "blend"
            network = (
                _blend(session, variant, folder) if is_blend else _train(session, variant, origin, folder, run.run_id)
            )
            from models.compression.pruning import share_zero
            from models.training.build import num_parameters
            from models.training.checkpoint import read_history
            from models.training.epoch import best_loss

            improved = _improved(session, variant, network, folder) if _is_improved(recipe, variant) else {}
            figures = {"num_parameters": num_parameters(network), "best_val_loss": best_loss(read_history(folder))}
            figures |= improved
            if variant.role == "pruned":
                figures["share_zero"] = share_zero(network)
            session.shop.tracking.log_metrics(run.run_id, figures)
            return {**figures, "origin": origin, "run_id": run.run_id}

    return session.note(f"fit {variant.name}", once(session.shop, "fit", key, compute))


def _keys(session: Session, variant: Variant) -> list[str]:
    return [session.steps[f"fit {name}"].key for name in variant.origins]


def _is_improved(recipe: Recipe, variant: Variant) -> bool:
    """Whether it goes on learning in the simulator: a policy that was fitted to a teacher's decisions."""
    return recipe.task == "control" and recipe.improve.num_generations > 0 and variant.name == "teacher"


def _improved(session: Session, variant: Variant, network: "nn.Module", folder: Path) -> dict[str, float]:
    from flows.improve import improve
    from models.training.checkpoint import write_weights

    figures = improve(session, variant, network, folder)
    write_weights(folder / PERMANENT, network)
    return figures


def best_fit(session: Session, names: Iterable[str]) -> str:
    """Which of these fitted candidates has the least validation loss; empty for none."""
    return min(names, key=lambda name: float(session.steps[f"fit {name}"].notes["best_val_loss"]), default="")


def load(session: Session, variant: Variant) -> "nn.Module":
    """The fitted network; a pruned one takes the sizes of its weights."""
    from models.training.loop import load_weights

    folder = session.steps[f"fit {variant.name}"].folder
    if variant.role == "blend":
        from models.training.blend import Blend

        weights = json.loads((folder / BLEND).read_text())
        return Blend(_members(session, weights), weights).eval()
    network = _build(session, variant)
    permanent = folder / PERMANENT
    load_weights(network, permanent if permanent.exists() else folder / "weights.safetensors")
    return network.eval()


def _train(session: Session, variant: Variant, origin: str, folder: Path, run_id: str) -> "nn.Module":
    import torch

    from models.compression.pruning import make_permanent, prune_network
    from models.training.checkpoint import read_history, write_weights
    from models.training.consistency import Consistency
    from models.training.loop import train
    from models.training.objective import TaskLoss

    if torch.cuda.is_available():  # on the CPU they are deterministic as they are, and this would slow them down
        torch.use_deterministic_algorithms(True, warn_only=True)
    snapshot, recipe = session.snapshot, session.recipe
    scaler = snapshot.manifest.scaler
    network = _build(session, variant)
    task_loss = TaskLoss(recipe.task, variant.train.loss, scaler)
    objective: nn.Module = Consistency(task_loss) if variant.train.unlabelled == "consistency" else task_loss
    if variant.role == "pruned":
        network = load(session, _named(recipe, origin))
        prune_network(network, recipe.prune)
    elif variant.role == "distilled":
        objective = _teaching(session, variant, network, origin)
    samples = snapshot.samples("train"), snapshot.samples("val")
    for epoch in train(network, objective, *samples, variant.train, folder, judge=task_loss):
        note = f"epoch {epoch.number}/{epoch.num_epochs}, validation loss {epoch.val_loss:.4f}"
        session.watch(f"fit {variant.name}", epoch.number / epoch.num_epochs, note)
    if variant.role == "pruned":
        make_permanent(network)
        write_weights(folder / PERMANENT, network)
    epochs = [asdict(epoch) for epoch in read_history(folder)]
    numbers = ("number", "train_loss", "val_loss", "learning_rate", "seconds")
    session.shop.tracking.log_epochs(run_id, [{name: epoch[name] for name in numbers} for epoch in epochs])
    return network


def _members(session: Session, names: Iterable[str]) -> "dict[str, nn.Module]":
    return {name: load(session, _named(session.recipe, name)) for name in names}


def _blend(session: Session, variant: Variant, folder: Path) -> "nn.Module":
    """The mean of its origins that validation likes best; nothing is trained."""
    from models.training.blend import Blend, choose_members
    from models.training.checkpoint import write_done
    from models.training.epoch import Epoch
    from models.training.objective import TaskLoss
    from models.training.tensors import choose_device

    recipe, snapshot, began = session.recipe, session.snapshot, time.perf_counter()
    judge = TaskLoss(recipe.task, recipe.train.loss, snapshot.manifest.scaler)
    members = _members(session, variant.origins)
    device = choose_device(recipe.train.device)
    weights, loss = choose_members(members, judge.to(device), snapshot.samples("val"), recipe.blend.most, device)
    write_atomic(folder / BLEND, json.dumps(weights, indent=1).encode())
    network = Blend(members, weights).cpu()
    write_done(folder, network, (Epoch(1, loss, loss, 0.0, time.perf_counter() - began, True, 1),))
    session.watch(f"fit {variant.name}", 1.0, f"{weights}, validation loss {loss:.4f}")
    return network


def _teaching(session: Session, variant: Variant, network: "nn.Module", origin: str) -> "nn.Module":
    from models.training.build import example_inputs
    from models.training.distillation import distillation

    recipe, snapshot = session.recipe, session.snapshot
    teacher = load(session, _named(recipe, origin))
    example = example_inputs(catalog.family(session.recipe.task, variant.family), snapshot.shape)
    scaler = snapshot.manifest.scaler
    return distillation(recipe.task, teacher, network, example, variant.train, recipe.distil, scaler)


def _build(session: Session, variant: Variant) -> "nn.Module":
    from models.training.build import build_network

    snapshot = session.snapshot
    card = catalog.family(session.recipe.task, variant.family)
    return build_network(card, snapshot.shape, variant.config, snapshot.manifest.scaler, variant.train.seed)


def _named(recipe: Recipe, name: str) -> Variant:
    return next(variant for variant in variants(recipe) if variant.name == name)


def _baseline(recipe: Recipe, name: str) -> Variant:
    """A baseline as its own card says, on the device and with the seed of the recipe."""
    if name == recipe.family:
        return Variant(name, name, recipe.model, recipe.train)
    card = catalog.family(recipe.task, name)
    own = {key.partition(".")[2]: value for key, value in card.recipe.items() if key.startswith("train.")}
    train = TrainRecipe.model_validate({"device": recipe.train.device, "seed": recipe.train.seed, **own})
    return Variant(name, name, card.config(), train)
