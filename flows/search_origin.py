"""What is to be compressed: a live product's teacher, or a recipe's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.live import live_model, live_products
from flows.options import UsageError
from flows.prepare import Prepared, build_recipe, prepare_data
from flows.search_point import prepared_from
from flows.steps import fetch_folder
from flows.workshop import Workshop
from infra.refs import DataRef
from models import catalog
from models.catalog import UnknownNameError
from models.recipe import JudgeRecipe, Recipe


@dataclass(frozen=True)
class Origin:
    """The teacher's recipe and its data."""

    recipe: Recipe
    prepared: Prepared


def find_origin(shop: Workshop, name: str, data: str | None, settings: Mapping[str, Any], product: str = "") -> Origin:
    """By the name of a live product, or `task/family`, whose teacher is trained first; raises as `wished_recipe`."""
    recipe = wished_recipe(shop, name, data, settings, product)
    if name in catalog.recipe_names():
        return Origin(recipe, prepare_data(shop, recipe))
    return Origin(recipe, prepared_from(shop, DataRef.model_validate(_registered(shop, name)["data"])))


def wished_recipe(
    shop: Workshop, name: str, data: str | None, settings: Mapping[str, Any], product: str = ""
) -> Recipe:
    """What is to be searched, known before anything is computed.

    Raises UnknownNameError, RecipeError, and UsageError where a live product's recipe was to be changed.
    """
    if name in catalog.recipe_names():
        return build_recipe(shop, name, data, settings, product)
    live = live_products(shop)
    if name not in live:
        raise UnknownNameError("recipe or live product", name, [*catalog.recipe_names(), *live])
    recipe = _recipe_of(shop, name)
    if data or settings or product:
        raise UsageError(
            f"{name} is live: its own recipe and data are searched, --data, --set and --product are for a recipe, "
            f"e.g. roadworthy compress {recipe.name} --data {recipe.data.name}"
        )
    return recipe


def _registered(shop: Workshop, product: str) -> dict[str, Any]:
    """The evaluation that the live version was registered with."""
    tags = shop.registry.version_tags(live_model(shop, product))
    folder = fetch_folder(shop, tags["roadworthy.evaluation"])
    record: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return record


def _recipe_of(shop: Workshop, product: str) -> Recipe:
    """The live version's own; its bounds on cost make way for those of the search."""
    recipe = Recipe.model_validate(_registered(shop, product)["recipe"])
    bounds = {name: JudgeRecipe.model_fields[name].default for name in ("max_bytes", "max_latency_ms")}
    return recipe.model_copy(update={"judge": recipe.judge.model_copy(update=bounds)})
