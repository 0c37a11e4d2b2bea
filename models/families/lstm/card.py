"""Card of the LSTM."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class LstmConfig(FamilyConfig):
    """Widths of the recurrent network."""

    width: int = Field(default=96, ge=1)
    num_layers: int = Field(default=1, ge=1)
    node_width: int = Field(default=16, ge=1)
    slot_width: int = Field(default=8, ge=1)
    weekday_width: int = Field(default=4, ge=1)


CARD = FamilyCard(
    name="lstm",
    task="forecast",
    title="LSTM shared by all nodes",
    source="Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997",
    network="models.families.lstm.network:Lstm",
    config=LstmConfig,
    student=LstmConfig(width=24, node_width=4, slot_width=4, weekday_width=2),
    recipe={"train.num_epochs": 8, "train.batch_size": 64, "distil.num_epochs": 8},
    search={"width": (16, 24, 48), "num_layers": (1, 2), "node_width": (4, 8)},
    measured="Widths and epochs were chosen for time on a CPU, not searched.",
)
