"""Card of the Kalman baseline."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="kalman",
    task="localise",
    title="Extended Kalman filter over fixes, wheel speed and turn rate",
    source="Kalman, A New Approach to Linear Filtering and Prediction Problems, J. Basic Engineering 82(1), 1960",
    network="models.families.kalman.network:Kalman",
    is_baseline=True,
    gate="beat",
)
