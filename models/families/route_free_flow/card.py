"""Card of free flow."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class FreeFlowConfig(FamilyConfig):
    """Which of the training travel times counts as free."""

    quantile: float = Field(default=0.05, gt=0, lt=1)


CARD = FamilyCard(
    name="free_flow",
    task="route",
    title="Travel times of empty streets",
    source="Dijkstra, A note on two problems in connexion with graphs, Numerische Mathematik 1, 1959 (fixed lengths)",
    network="models.families.route_free_flow.network:FreeFlow",
    config=FreeFlowConfig,
    is_baseline=True,
    gate="beat",
)
