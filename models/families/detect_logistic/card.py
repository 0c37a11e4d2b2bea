"""Card of the logistic incident detector."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class DetectLogisticConfig(FamilyConfig):
    """`reach` stations up and down the road are read beside each station; `ridges` compete on validation."""

    reach: int = Field(default=2, ge=0)
    ridges: tuple[float, ...] = Field(default=(1.0, 10.0, 100.0), min_length=1)
    num_steps: int = Field(default=15, ge=1, description="Newton steps")


CARD = FamilyCard(
    name="logistic",
    task="detect",
    title="Logistic regression on a station, its neighbours and their recent change",
    source="Cox, The regression analysis of binary sequences, JRSS B 20(2), 1958",
    network="models.families.detect_logistic.network:DetectLogistic",
    config=DetectLogisticConfig,
    is_baseline=True,
    recipe={"train.loss": "bce"},
    gate="not_worse",
)
