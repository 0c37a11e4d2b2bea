"""Card of the positioning network."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class CnnGruConfig(FamilyConfig):
    """Widths, and the grid of places around the Kalman estimate that are weighed against each other."""

    width: int = Field(default=64, ge=1, description="hidden state of the GRU")
    num_filters: int = Field(default=32, ge=1)
    num_convolutions: int = Field(default=2, ge=1)
    reach_m: float = Field(default=48.0, gt=0, description="farthest place weighed, ahead, behind and to the sides")
    spacing_m: float = Field(default=6.0, gt=0)


CARD = FamilyCard(
    name="cnn_gru",
    task="localise",
    title="Convolutions over the map along the track, and a GRU over the fixes",
    source="Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014; "
    "Olson, Real-time correlative scan matching, ICRA 2009",
    measured=(
        "Validation drives: RMSE 7.9 m after 5 epochs against 16.7 m of the Kalman filter; epochs are "
        "limited by time, not searched."
    ),
    network="models.families.cnn_gru.network:CnnGru",
    config=CnnGruConfig,
    student=CnnGruConfig(width=24, num_filters=20),
    recipe={"train.num_epochs": 12, "train.batch_size": 64, "train.loss": "huber", "distil.num_epochs": 12},
    search={"width": (16, 24, 48), "num_filters": (8, 12, 20), "num_convolutions": (1, 2)},
)
