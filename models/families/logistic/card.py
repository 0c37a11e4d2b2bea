"""Card of the logistic baseline."""

from models.catalog import FamilyCard

CARD = FamilyCard(
    name="logistic",
    task="classify",
    title="Multinomial logistic regression",
    source="Cox, The Regression Analysis of Binary Sequences, JRSS B 20(2), 1958; multinomial form",
    network="models.families.logistic.network:Logistic",
    is_baseline=True,
    gate="not_worse",
    recipe={"train.loss": "cross_entropy", "train.num_epochs": 60, "train.learning_rate": 1e-2, "train.batch_size": 64},
)
