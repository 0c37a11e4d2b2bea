"""Card of the transformer."""

from pydantic import Field, model_validator

from models.catalog import FamilyCard, FamilyConfig


class TransformerConfig(FamilyConfig):
    """Widths of the encoder; `width` is shared out evenly among the heads."""

    width: int = Field(default=32, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_layers: int = Field(default=2, ge=1)
    inner_width: int = Field(default=64, ge=1)
    node_width: int = Field(default=16, ge=1)
    slot_width: int = Field(default=8, ge=1)
    weekday_width: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> "TransformerConfig":
        if self.width % self.num_heads:
            raise ValueError(f"width: expected a multiple of num_heads {self.num_heads}, got {self.width}")
        return self


CARD = FamilyCard(
    name="transformer",
    task="forecast",
    title="Transformer encoder over each node's past",
    source="Vaswani et al., Attention Is All You Need, NeurIPS 2017",
    network="models.families.transformer.network:Transformer",
    config=TransformerConfig,
    student=TransformerConfig(width=24, num_heads=2, num_layers=1, inner_width=64, node_width=8, slot_width=4),
    recipe={"train.num_epochs": 8, "train.learning_rate": 3e-3, "train.schedule": "one_cycle", "distil.num_epochs": 8},
    search={"width": (8, 16, 24), "num_layers": (1, 2), "inner_width": (16, 32, 64)},
    measured="Widths and epochs were chosen for time on a CPU, not searched.",
)
