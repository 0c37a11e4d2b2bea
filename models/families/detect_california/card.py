"""Card of the California algorithm."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class CaliforniaConfig(FamilyConfig):
    """Shares of training values from which the three thresholds are tried, and the minutes between which to compare."""

    shares: tuple[float, ...] = Field(default=(0.5, 0.8, 0.9, 0.95, 0.98), min_length=1)
    minutes_apart: int = Field(default=2, ge=1)


CARD = FamilyCard(
    name="california",
    task="detect",
    title="California algorithm: three occupancy tests between two stations",
    source="Payne and Tignor, Freeway incident-detection algorithms based on decision trees, TRR 682, 1978",
    network="models.families.detect_california.network:California",
    config=CaliforniaConfig,
    is_baseline=True,
    recipe={"train.loss": "bce"},
    gate="beat",
)
