"""Card of ridge regression on the features."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class RegressLinearConfig(FamilyConfig):
    """Strengths that compete on validation, in units of one training sample."""

    ridges: tuple[float, ...] = Field(default=(0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1)


CARD = FamilyCard(
    name="linear",
    task="regress",
    title="Ridge regression on the features",
    source="Hoerl and Kennard, Ridge Regression, Technometrics 12(1), 1970",
    network="models.families.regress_linear.network:RegressLinear",
    config=RegressLinearConfig,
    is_baseline=True,
    gate="not_worse",
)
