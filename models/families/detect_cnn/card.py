"""Card of the convolutional incident detector."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class DetectCnnConfig(FamilyConfig):
    """`filters` look at `span` stations over the whole past; `width` units at three of them and at one."""

    filters: int = Field(default=96, ge=1)
    width: int = Field(default=64, ge=1)
    span: int = Field(default=5, ge=1, description="stations that a filter sees, odd")
    dropout: float = Field(default=0.3, ge=0, lt=1)


CARD = FamilyCard(
    name="cnn",
    task="detect",
    title="Convolutions over stations, the past as channels",
    source="Ritchie and Cheu, Freeway incident detection using neural networks, Transportation Research C 1(3), 1993",
    network="models.families.detect_cnn.network:DetectCnn",
    config=DetectCnnConfig,
    student=DetectCnnConfig(filters=24, width=16, dropout=0.1),
    recipe={
        "train.loss": "bce",
        "train.num_epochs": 20,
        "train.learning_rate": 2e-3,
        "train.schedule": "one_cycle",
        "train.patience": 8,
        "distil.num_epochs": 20,
    },
    measured="validation of freeway_incidents, log loss per station-hour: 0.62 (12 epochs 0.66, logistic 0.88)",
    search={"filters": (8, 16, 24, 48), "width": (8, 16, 32)},
)
