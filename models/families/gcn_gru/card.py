"""Card of the graph-convolutional GRU."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class GcnGruConfig(FamilyConfig):
    """Widths; where the data bring no adjacency, one is learned from node vectors of `link_width`."""

    width: int = Field(default=48, ge=1)
    link_width: int = Field(default=10, ge=1)
    node_width: int = Field(default=16, ge=1)
    slot_width: int = Field(default=8, ge=1)
    weekday_width: int = Field(default=4, ge=1)


CARD = FamilyCard(
    name="gcn_gru",
    task="forecast",
    title="T-GCN: graph convolutions inside a GRU",
    source="Zhao et al., T-GCN, IEEE Transactions on Intelligent Transportation Systems 21(9), 2020",
    network="models.families.gcn_gru.network:GcnGru",
    config=GcnGruConfig,
    student=GcnGruConfig(width=24, link_width=6, node_width=8, slot_width=4, weekday_width=2),
    recipe={"train.num_epochs": 8, "train.learning_rate": 3e-3, "train.schedule": "one_cycle", "distil.num_epochs": 8},
    search={"width": (12, 16, 32), "link_width": (4, 8)},
    measured="Widths and epochs were chosen for time on a CPU, not searched.",
)
