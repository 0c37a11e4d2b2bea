"""Card of the multilayer perceptron on the features."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class RegressMlpConfig(FamilyConfig):
    """Width of the two hidden layers."""

    width: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


CARD = FamilyCard(
    name="mlp",
    task="regress",
    title="Multilayer perceptron on the features",
    source="Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323, 1986",
    network="models.families.regress_mlp.network:RegressMlp",
    config=RegressMlpConfig,
    student=RegressMlpConfig(width=16, dropout=0.0),
    recipe={"train.loss": "mae", "train.num_epochs": 40, "train.patience": 12, "distil.num_epochs": 40},
    measured="validation of oregon_travel_times: MAE 3.30 s (5e-3: 3.31, 80 epochs: 3.32, huber: 3.35, 128 wide: 3.27)",
    search={"width": (4, 8, 16, 32)},
)
