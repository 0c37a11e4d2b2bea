"""Card of the evolved priority index."""

from pydantic import Field

from models.catalog import FamilyCard, FamilyConfig

START = (
    1.41,
    1.125,
    -0.147,
    0.17,
    -0.155,
    -0.032,
    0.633,
    0.237,
    0.282,
    -0.01,
    0.003,
    0.075,
    4.228,
    2.056,
    0.333,
    0.41,
    0.579,
)


class PriorityConfig(FamilyConfig):
    """Where the search starts."""

    weights: tuple[float, ...] = Field(default=START, min_length=17, max_length=17)
    sharpness: float = Field(default=4.0, gt=0, description="factor from priority to logit")


CARD = FamilyCard(
    name="priority",
    task="control",
    title="Evolved priority index of phases",
    source="Lämmer and Helbing, Self-control of traffic lights, J. Stat. Mech. P04019, 2008; CMA-ES, Hansen 2001",
    network="models.families.control_priority.network:Priority",
    config=PriorityConfig,
    # The weights come from the closed loop; imitation at any speed would pull them back to their teacher.
    recipe={
        "train.loss": "cross_entropy", "train.num_epochs": 1, "train.batch_size": 512, "train.learning_rate": 1e-6,
        "distil.enabled": False, "prune.enabled": False, "quantise.enabled": False,
    },
)  # fmt: skip
