"""Card of the boosted trees."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class BoostedTreesConfig(FamilyConfig):
    """One ensemble for each of a few horizon steps, on rows (window, node) drawn with a seed."""

    num_trees: int = Field(default=60, ge=1)
    depth: int = Field(default=6, ge=1, le=10)
    learning_rate: float = Field(default=0.15, gt=0)
    num_lags: int = Field(default=6, ge=1, description="own past steps that a tree sees")
    num_neighbours: int = Field(default=6, ge=0, description="nodes whose present tells most of the next change")
    max_rows: int = Field(default=60_000, ge=100, description="drawn for each step")
    seed: int = 7


CARD = FamilyCard(
    name="boosted_trees",
    task="forecast",
    title="Gradient-boosted trees on the node's past and its neighbours'",
    source="Friedman, Greedy Function Approximation, Annals of Statistics, 2001; Ke et al., LightGBM, NeurIPS 2017",
    network="models.families.boosted_trees.network:BoostedTrees",
    config=BoostedTreesConfig,
    is_baseline=True,
)
