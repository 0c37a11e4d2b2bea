"""What is prepared where nobody says more, and what is refused before anything is simulated."""

from pathlib import Path

import pytest

from flows.options import UsageError
from flows.prepare import DEFAULT_DATA, DEFAULT_RECIPE, build_recipe, prepare_key
from flows.workshop import open_workshop
from models import catalog


def test_every_task_has_a_recipe_and_a_data_set_that_exist() -> None:
    tasks = {name.partition("/")[0] for name in catalog.recipe_names()}
    assert set(DEFAULT_RECIPE) == set(DEFAULT_DATA) == tasks
    assert set(DEFAULT_RECIPE.values()) <= set(catalog.recipe_names())
    assert all(catalog.datasets()[name].task == task for task, name in DEFAULT_DATA.items())


@pytest.mark.parametrize(
    ("recipe", "seed", "message"),
    [("detect/cnn", 10**11, "expected 0 to 2000000"), ("forecast/linear", 3, "'oregon_counts' is not simulated")],
)
def test_a_seed_that_nobody_can_simulate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, seed: int, message: str
) -> None:
    monkeypatch.setenv("ROADWORTHY_HOME", str(tmp_path))
    shop = open_workshop()
    with pytest.raises(UsageError, match=message):
        prepare_key(shop, build_recipe(shop, recipe, None, {"data.seed": seed}))
