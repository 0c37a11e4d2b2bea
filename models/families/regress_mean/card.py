"""Card of the mean."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="mean",
    task="regress",
    title="The mean of the training targets, whatever the features",
    source="Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., 2009, section 3.2",
    network="models.families.regress_mean.network:Mean",
    is_baseline=True,
    gate="beat",
)
