"""Card of the live travel times."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="live",
    task="route",
    title="The last travel time that was reported of each edge",
    source="Ben-Akiva, De Palma and Kaysi, Dynamic network models and driver information systems, 1991",
    network="models.families.route_live.network:Live",
    is_baseline=True,
    gate="not_worse",
)
