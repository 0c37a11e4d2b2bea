"""Card of the daily profile of travel times."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig


class RouteProfileConfig(FamilyConfig):
    """How far slots beside each other are averaged."""

    slots_per_day: int = Field(default=288, ge=1)
    reach_slots: int = Field(default=2, ge=0, description="slots to either side that count as the same time of day")


CARD = FamilyCard(
    name="profile",
    task="route",
    title="The usual travel time of each edge at this time of day",
    source="Stephanedes, Michalopoulos and Plum, Improved estimation of traffic flow for real-time control, 1981",
    network="models.families.route_profile.network:RouteProfile",
    config=RouteProfileConfig,
    is_baseline=True,
    gate="beat",
)
