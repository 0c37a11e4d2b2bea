"""What is tried: from the card, or from what looks like a width; points have names that stay."""

from dataclasses import replace

import pytest

from models import catalog, recipe
from models.compression.space import Point, SpaceError, is_teacher, space_of
from models.data.card import Contract, DatasetCard

CARD = catalog.family("classify", "mlp")
DATA = DatasetCard(name="x", task="classify", title="x", source="x", licence="x", contract=Contract())
RECIPE = recipe.build("classify/mlp", DATA)


def test_values_of_the_card_are_tried_the_recipes_own_among_them() -> None:
    space = space_of(replace(CARD, search={"width": (32, 8)}), RECIPE)
    assert space.student["width"] == (8, 32, 96)
    assert space.sizes == {"student.width": 3, "base": 3, "share": 5, "precision": 4}
    numbers = {"student.width": 0, "base": 0, "share": 3, "precision": 1}
    point = space.point(numbers)
    assert point == Point(
        base="distilled", student={"width": 8, "dropout": 0.0}, prune_share=0.4, precision="int8_static"
    )
    assert point.words() == "distilled width=8 dropout=0.0, pruned 40%, int8_static"


def test_without_values_widths_are_made_smaller() -> None:
    assert space_of(replace(CARD, search={}), RECIPE).student == {"width": (12, 24, 48, 96)}
    cnn = replace(catalog.family("classify", "cnn"), search={})
    full = recipe.build("classify/cnn", DATA)
    widths = space_of(cnn, full).student["widths"]
    assert widths[-1] == list(full.student.widths)  # type: ignore[union-attr]
    assert len(widths) == 4
    assert [sum(one) for one in widths] == sorted(sum(one) for one in widths)


def test_what_is_a_list_in_json_is_a_tuple_in_the_recipe() -> None:
    space = space_of(catalog.family("classify", "cnn"), recipe.build("classify/cnn", DATA))
    numbers = dict.fromkeys(space.sizes, 0)
    assert space.point(numbers).recipe(recipe.build("classify/cnn", DATA)).student.widths == tuple(
        space.student["widths"][0]
    )  # type: ignore[union-attr]


def test_starting_points_are_points_of_the_space_and_all_different() -> None:
    space = space_of(CARD, RECIPE)
    points = [space.point(numbers) for numbers in space.starts()]
    assert len({point.name for point in points}) == len(points) > 6
    assert not any(is_teacher(point) for point in points)
    assert points[0].student == RECIPE.student.model_dump()  # type: ignore[union-attr]


def test_a_points_recipe_says_what_is_done() -> None:
    point = Point(base="hard", student={"width": 8, "dropout": 0.0}, prune_share=0.2, precision="int8_dynamic")
    got = point.recipe(RECIPE)
    assert (got.prune.enabled, got.prune.share, got.quantise.method) == (True, 0.2, "dynamic")
    assert got.model == RECIPE.model
    floats = point.in_full()
    assert floats.recipe(got) == floats.recipe(RECIPE), "both precisions of a student share its export"
    assert point.name == Point.model_validate_json(point.model_dump_json()).name
    assert Point(base="teacher", prune_share=0.4).recipe(RECIPE).distil.enabled is False


def test_a_baseline_has_nothing_to_search() -> None:
    with pytest.raises(SpaceError, match="logistic is a baseline"):
        space_of(catalog.family("classify", "logistic"), recipe.build("classify/logistic", DATA))
