"""Card of the last-fix baseline."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="last_fix",
    task="localise",
    title="Last fix that was seen",
    source="What a receiver shows: Groves, Principles of GNSS, Inertial, and Multisensor Integrated Navigation "
    "Systems, 2nd ed., 2013",
    network="models.families.last_fix.network:LastFix",
    is_baseline=True,
    gate="beat",
)
