"""One whole run as one frozen typed record, JSON both ways.

A recipe is named `task/family`. Its values come from, later ones winning: the defaults below, the family's card, the
data set's card, `--set key=value`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from models import catalog
from models.catalog import FamilyConfig, UnknownNameError
from models.data.card import DatasetCard, Frozen, TaskName


class RecipeError(ValueError):
    """A setting that no recipe has, or a value that it refuses; the message says which are known."""


class DataRecipe(Frozen):
    """Windows and the chronological split; shares are of the whole, the rest is the test split."""

    name: str
    past_steps: int = Field(12, ge=1, description="T: steps that the model sees")
    horizon_steps: int = Field(12, ge=1, description="H: steps that it forecasts")
    train_share: float = Field(0.7, gt=0, lt=1)
    val_share: float = Field(0.1, gt=0, lt=1)
    gap_steps: int = Field(12, ge=0, description="steps left out between two splits")
    labelled_share: float = Field(1.0, gt=0, le=1, description="share of train labels kept (classify); rest unlabelled")
    seed: int | None = Field(
        None, ge=0, description="simulates the data set anew from this seed; None: as it is shipped"
    )


class TrainRecipe(Frozen):
    """The one training loop."""

    num_epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "one_cycle", "step"] = "cosine"
    clip_norm: float = Field(5.0, gt=0)
    patience: int = Field(6, ge=1, description="epochs without a better validation loss before the loop stops")
    loss: Literal["mae", "mse", "huber", "cross_entropy", "bce"] = "mae"
    augment: Literal["none", "light", "strong"] = Field(
        "none", description="classify: images changed at random in training"
    )
    unlabelled: Literal["ignore", "consistency"] = Field(
        "ignore", description="classify: whether images without a label teach, as in FixMatch 2020"
    )
    seed: int = 7
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    num_folds: int = Field(0, ge=0, description="k of the k-fold evidence; 0 leaves it out")


class DistilRecipe(Frozen):
    """Teacher to student. The hard-label student is trained whenever this is on."""

    enabled: bool = True
    num_epochs: int = Field(20, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    temperature: float = Field(4.0, gt=0, description="classify: softening of the logits (Hinton 2015)")
    soft_weight: float = Field(0.5, ge=0, le=1, description="weight of the teacher's outputs against the labels")
    hint_weight: float = Field(0.1, ge=0, description="weight of hidden hints (FitNets 2015)")


def student_recipe(train: TrainRecipe, distil: DistilRecipe) -> TrainRecipe:
    """How students are trained, the hard-label one and the distilled one alike; of unlabelled data a teacher tells."""
    own = {"num_epochs": distil.num_epochs, "learning_rate": distil.learning_rate, "unlabelled": "ignore"}
    return train.model_copy(update=own)


class PruneRecipe(Frozen):
    """Structured pruning removes whole units; magnitude pruning zeroes single weights."""

    enabled: bool = True
    method: Literal["structured", "magnitude"] = "structured"
    share: float = Field(0.3, ge=0, lt=1)
    num_epochs: int = Field(6, ge=1, description="fine-tuning afterwards")
    learning_rate: float = Field(1e-3, gt=0)


class BlendRecipe(Frozen):
    """The mean of fitted candidates as one more candidate (forecast): the best figure, whatever it weighs."""

    enabled: bool = False
    most: int = Field(15, ge=1, description="members, counted as often as they are taken")


class QuantiseRecipe(Frozen):
    """Fewer bits for the exported graph: static or dynamic int8, or half precision."""

    enabled: bool = True
    method: Literal["static", "dynamic", "fp16"] = "static"
    num_calibration: int = Field(256, ge=8)


class ImproveRecipe(Frozen):
    """After imitation, better in closed loop: evolution of a policy's parameters in the simulator (control)."""

    num_generations: int = Field(0, ge=0, description="0 leaves it out")
    population: int = Field(8, ge=4)
    num_seeds: int = Field(2, ge=1, description="simulated traffic that every member of a generation is tried on")
    step_size: float = Field(0.2, gt=0)
    seed: int = 11


class EvaluateRecipe(Frozen):
    """The convention of the figures: our own, or that of a paper, so that they can be held against it."""

    protocol: Literal["default", "tgcn", "metr_la"] = "default"


# What a published protocol fixes. tgcn: Zhao et al., T-GCN, IEEE T-ITS 2020, 80/20 with the checkpoint chosen on the
# last eighth of the 80, errors pooled over all steps up to the horizon, trained for squares (theirs) where errors are
# small. metr_la: Li et al., DCRNN, ICLR 2018, errors at the judged step. Figures that are held against a paper's are
# the best candidate's: nothing is given away for a smaller file.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "default": {},
    "tgcn": {
        "data.past_steps": 12, "data.horizon_steps": 3, "data.train_share": 0.7, "data.val_share": 0.1,
        "data.gap_steps": 0, "judge.judged_step": 3, "judge.tolerance": 0.0, "blend.enabled": True,
        "train.loss": "huber",
    },
    "metr_la": {
        "data.past_steps": 12, "data.horizon_steps": 12, "data.train_share": 0.7, "data.val_share": 0.1,
        "data.gap_steps": 0, "judge.judged_step": 3, "judge.tolerance": 0.0, "blend.enabled": True,
    },
}  # fmt: skip


class JudgeRecipe(Frozen):
    """What the candidate must hold. `judged_step` is the horizon step (from 1) whose error decides; None: 15 min."""

    judged_step: int | None = Field(None, ge=1)
    tolerance: float = Field(0.01, ge=0, description="validation error may exceed the best by this share")
    num_resamples: int = Field(500, ge=100)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    max_latency_ms: float = Field(50.0, gt=0, description="p99 of one request in the predictor")
    max_bytes: int = Field(50_000_000, gt=0)
    num_approvals: int = Field(0, ge=0, description="people who must approve what passed before it goes on the road")
    max_false_alarms: float = Field(5.0, ge=0, description="detect: per 100 station-hours, at the validation threshold")
    closed_loop_seeds: int = Field(8, ge=2, description="route, control: simulated runs that it drives")
    closed_loop_first_seed: int = Field(9000, ge=0, description="apart from every seed that it was trained on")
    closed_loop_max_s: float = Field(600.0, gt=0, description="no simulation begins after this many seconds")


class Recipe(Frozen):
    """The whole run."""

    task: TaskName
    family: str
    product: str = Field(pattern="^[a-z0-9_][a-z0-9_-]{0,62}$", description="the registered name")
    data: DataRecipe
    model: SerializeAsAny[FamilyConfig]
    student: SerializeAsAny[FamilyConfig] | None = None
    train: TrainRecipe = TrainRecipe()
    distil: DistilRecipe = DistilRecipe()
    prune: PruneRecipe = PruneRecipe()
    blend: BlendRecipe = BlendRecipe()
    quantise: QuantiseRecipe = QuantiseRecipe()
    improve: ImproveRecipe = ImproveRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    judge: JudgeRecipe = JudgeRecipe()

    @field_validator("model", "student", mode="before")
    @classmethod
    def _typed(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return catalog.family(info.data["task"], info.data["family"]).config.model_validate(value)

    @property
    def name(self) -> str:
        return f"{self.task}/{self.family}"

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def build(name: str, data: DatasetCard, settings: Mapping[str, Any] | None = None, product: str = "") -> Recipe:
    """The recipe `name` on this data set with dotted `settings` on top.

    Raises UnknownNameError for an unknown recipe, RecipeError for an unknown key, a refused value, another task's data.
    """
    if name not in catalog.recipe_names():
        raise UnknownNameError("recipe", name, catalog.recipe_names())
    card = catalog.family(*name.split("/"))
    if data.task != card.task:
        raise RecipeError(f"recipe {name} is for {card.task} data; data set '{data.name}' is for {data.task}")
    tree: dict[str, Any] = {
        "task": card.task,
        "family": card.name,
        "product": product or _product_of(data, settings or {}),
        "data": {"name": data.name},
        "model": card.config().model_dump(),
        "student": card.student.model_dump() if card.student else None,
    }
    wished = dict(settings or {})
    for key in wished:
        _refuse_unknown(key, tree)
    protocol = PROTOCOLS.get(str(wished.get("evaluate.protocol", "default")), {})
    for key, value in {**card.recipe, **data.recipe, **protocol, **wished}.items():
        _put(tree, key, value)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise RecipeError(f"recipe {name}: " + "; ".join(lines)) from error
    _check_fit(recipe)
    return recipe


def _check_fit(recipe: Recipe) -> None:
    """Refuse settings that are of no meaning for the recipe's task: nothing is skipped silently."""
    if recipe.train.augment != "none" and recipe.task != "classify":
        raise RecipeError(f"train.augment={recipe.train.augment}: for images alone, the task is {recipe.task}")
    if recipe.train.unlabelled != "ignore" and recipe.task != "classify":
        raise RecipeError(f"train.unlabelled={recipe.train.unlabelled}: for images alone, the task is {recipe.task}")
    if recipe.improve.num_generations and recipe.task != "control":
        raise RecipeError(f"improve.num_generations: policies alone are improved by driving, the task is {recipe.task}")
    if recipe.evaluate.protocol != "default" and recipe.task != "forecast":
        raise RecipeError(f"evaluate.protocol={recipe.evaluate.protocol}: for forecasts alone, not for {recipe.task}")
    if recipe.blend.enabled and recipe.task != "forecast":
        raise RecipeError(f"blend.enabled: for forecasts alone, the task is {recipe.task}")


def _product_of(data: DatasetCard, settings: Mapping[str, Any]) -> str:
    """The data set's name, and with it what makes another question of it: figures of two are not held together."""
    protocol, seed = settings.get("evaluate.protocol", "default"), settings.get("data.seed")
    other = "" if protocol == "default" else f"-{protocol}"
    return f"{data.name}{other}{'' if seed is None else f'-seed{seed}'}"


def known_keys(tree: Mapping[str, Any]) -> list[str]:
    """Every dotted key that `--set` takes for this recipe tree."""
    parts: dict[str, type[Frozen]] = {"data": DataRecipe, "train": TrainRecipe, "distil": DistilRecipe}
    parts |= {"prune": PruneRecipe, "quantise": QuantiseRecipe, "improve": ImproveRecipe}
    parts |= {"blend": BlendRecipe, "evaluate": EvaluateRecipe, "judge": JudgeRecipe}
    keys = [f"{part}.{field}" for part, record in parts.items() for field in record.model_fields if field != "name"]
    keys += [f"{part}.{field}" for part in ("model", "student") for field in tree[part] or ()]
    return sorted([*keys, "product"])


def _refuse_unknown(key: str, tree: Mapping[str, Any]) -> None:
    known = known_keys(tree)
    if key not in known:
        raise RecipeError(f"unknown recipe key '{key}'; known: {', '.join(known)}")


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value
