"""Card of the linear baseline."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class LinearConfig(FamilyConfig):
    """Strengths that compete on validation, and how far a slot of the profile leans on its neighbours."""

    ridges: tuple[float, ...] = Field(default=(1.0, 10.0, 100.0, 1000.0), min_length=1)
    neighbour_weight: float = Field(default=0.5, ge=0, le=1, description="weight of the slots beside it")


CARD = FamilyCard(
    name="linear",
    task="forecast",
    title="Ridge regression on the past steps and the profile",
    source="Hoerl and Kennard, Ridge Regression, Technometrics 12(1), 1970, on lags and a seasonal profile",
    network="models.families.linear.network:Linear",
    config=LinearConfig,
    is_baseline=True,
    gate="not_worse",
)
