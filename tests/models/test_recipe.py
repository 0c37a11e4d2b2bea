"""A recipe: names, protocols, and wishes that make no sense for its task."""

import pytest

from models import catalog, recipe
from models.recipe import RecipeError

FREEWAY, DIGITS = (catalog.datasets()[name] for name in ("freeway", "digits"))


def test_a_published_protocol_fixes_its_convention_and_is_a_product_of_its_own() -> None:
    plain = recipe.build("forecast/stid", FREEWAY)
    found = recipe.build("forecast/stid", FREEWAY, {"evaluate.protocol": "tgcn"})
    assert (plain.product, found.product) == ("freeway", "freeway-tgcn")
    assert (found.data.past_steps, found.data.horizon_steps, found.data.gap_steps) == (12, 3, 0)
    assert (found.judge.tolerance, found.blend.enabled, plain.blend.enabled) == (0.0, True, False)
    kept = recipe.build("forecast/stid", FREEWAY, {"evaluate.protocol": "tgcn", "data.horizon_steps": 6}, "mine")
    assert (kept.data.horizon_steps, kept.product) == (6, "mine"), "what is asked for goes before the protocol"
    assert recipe.build("forecast/stid", FREEWAY, {"data.seed": 5}).product == "freeway-seed5"


@pytest.mark.parametrize(
    ("name", "data", "wish"),
    [
        ("forecast/stid", FREEWAY, {"train.augment": "light"}),
        ("forecast/stid", FREEWAY, {"improve.num_generations": 3}),
        ("classify/cnn", DIGITS, {"evaluate.protocol": "tgcn"}),
        ("classify/cnn", DIGITS, {"blend.enabled": True}),
    ],
)
def test_a_wish_that_its_task_cannot_honour_is_refused(name: str, data: catalog.DatasetCard, wish: dict) -> None:
    with pytest.raises(RecipeError, match=next(iter(wish)).replace(".", r"\.")):
        recipe.build(name, data, wish)
