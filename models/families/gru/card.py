"""Card of the GRU."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class GruConfig(FamilyConfig):
    """Widths of the recurrent network and of what it is told of node and time."""

    width: int = Field(default=64, ge=1)
    num_layers: int = Field(default=1, ge=1)
    node_width: int = Field(default=16, ge=1)
    slot_width: int = Field(default=8, ge=1)
    weekday_width: int = Field(default=4, ge=1)


CARD = FamilyCard(
    name="gru",
    task="forecast",
    title="GRU shared by all nodes",
    source="Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014",
    network="models.families.gru.network:Gru",
    config=GruConfig,
    student=GruConfig(width=32, node_width=8, slot_width=4, weekday_width=2),
    recipe={"train.num_epochs": 8, "train.learning_rate": 3e-3, "distil.num_epochs": 8},
    search={"width": (16, 24, 48), "num_layers": (1, 2), "node_width": (4, 8)},
    measured="Widths and epochs were chosen for time on a CPU, not searched.",
)
