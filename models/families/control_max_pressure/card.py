"""Card of max-pressure control."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class MaxPressureConfig(FamilyConfig):
    """What counts beside the vehicles near the stop line."""

    far_queue: float = Field(default=0.5, ge=0, description="weight of vehicles standing farther back")
    exit_queue: float = Field(default=0.5, ge=0, description="weight of vehicles standing where the phase leads to")


CARD = FamilyCard(
    name="max_pressure",
    task="control",
    title="Max-pressure control",
    source="Varaiya, Max pressure control of a network of signalized intersections, Transportation Research C 36, 2013",
    network="models.families.control_max_pressure.network:MaxPressure",
    config=MaxPressureConfig,
    is_baseline=True,
    recipe={"train.loss": "cross_entropy"},
)
