"""Card of the last-value baseline."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="last_value",
    task="forecast",
    title="Last observed value",
    source="Naive forecast: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 5.2",
    network="models.families.last_value.network:LastValue",
    is_baseline=True,
    gate="beat",
)
