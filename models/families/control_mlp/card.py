"""Card of the multilayer perceptron that imitates a signal controller."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class ControlMlpConfig(FamilyConfig):
    """Width of the two hidden layers."""

    width: int = Field(default=96, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


CARD = FamilyCard(
    name="mlp",
    task="control",
    title="Multilayer perceptron, by imitation",
    source="Pomerleau, Efficient training of artificial neural networks for autonomous navigation, Neural Comp., 1991",
    measured="Imitation error on validation runs, 7.0 % of choices; width and epochs were not searched.",
    network="models.families.control_mlp.network:ControlMlp",
    config=ControlMlpConfig,
    student=ControlMlpConfig(width=32),
    recipe={
        "train.loss": "cross_entropy", "train.num_epochs": 30, "train.batch_size": 256, "train.learning_rate": 3e-3,
        "train.patience": 8, "distil.num_epochs": 30,
    },
    search={"width": (16, 24, 48, 64)},
)  # fmt: skip
