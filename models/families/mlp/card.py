"""Card of the multilayer perceptron."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class MlpConfig(FamilyConfig):
    """Width of the two hidden layers."""

    width: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


CARD = FamilyCard(
    name="mlp",
    task="classify",
    title="Multilayer perceptron",
    source="Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323, 1986",
    measured="Width and epochs as in the first digits product; not searched since.",
    network="models.families.mlp.network:Mlp",
    config=MlpConfig,
    student=MlpConfig(width=96, dropout=0.0),
    recipe={"train.loss": "cross_entropy", "train.num_epochs": 40, "distil.num_epochs": 60, "train.patience": 12},
    search={"width": (16, 32, 48, 64, 96)},
)
