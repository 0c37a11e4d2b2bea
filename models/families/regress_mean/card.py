"""Card of the mean."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="mean",
    task="regress",
    title="The mean of the training targets, whatever the features",
    source="Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805 (least squares)",
    network="models.families.regress_mean.network:Mean",
    is_baseline=True,
    gate="beat",
)
