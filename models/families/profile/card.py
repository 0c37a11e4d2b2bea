"""Card of the time-of-day profile baseline."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="profile",
    task="forecast",
    title="Weekday and weekend profile",
    source="Seasonal mean (historical average) of the METR-LA protocol: Li et al., DCRNN, ICLR 2018",
    network="models.families.profile.network:Profile",
    is_baseline=True,
    gate="beat",
)
