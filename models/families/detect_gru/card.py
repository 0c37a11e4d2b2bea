"""Card of the recurrent incident detector."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class DetectGruConfig(FamilyConfig):
    """Widths; `reach` stations up and down the road are read beside each station."""

    hidden: int = Field(default=48, ge=1)
    width: int = Field(default=48, ge=1)
    reach: int = Field(default=2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)


CARD = FamilyCard(
    name="gru",
    task="detect",
    title="GRU over minutes, a station with its neighbours at a time",
    source="Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014",
    network="models.families.detect_gru.network:DetectGru",
    config=DetectGruConfig,
    student=DetectGruConfig(hidden=32, width=24, dropout=0.0),
    recipe={
        "train.loss": "bce",
        "train.num_epochs": 6,
        "train.learning_rate": 4e-3,
        "train.schedule": "one_cycle",
        "train.patience": 4,
        "distil.num_epochs": 8,
    },
    measured="validation of freeway_incidents, log loss per station-hour: 0.63 at 6 epochs (logistic 0.88)",
    search={"hidden": (8, 16, 32), "width": (8, 16, 24)},
)
