"""What the search tries: student × distillation × pruning × precision, as numbers.

Values come from the family's card (`search`); where it names none, whatever looks like a width is made smaller.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from pydantic import Field

from models.catalog import FamilyCard
from models.data.card import Frozen
from models.recipe import Recipe

Base = Literal["distilled", "hard", "teacher"]
Precision = Literal["fp32", "int8_static", "int8_dynamic", "fp16"]
BASES: tuple[Base, ...] = ("distilled", "hard", "teacher")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8_static", "int8_dynamic", "fp16")
SHARES = (0.0, 0.2, 0.4, 0.6)
WIDTH_LIKE = ("width", "rank", "heads", "channels", "filters", "hidden")
SCALES = (0.125, 0.25, 0.5, 1.0)
STUDENT = "student."


class SpaceError(ValueError):
    """A recipe that leaves nothing to search."""


class Point(Frozen):
    """One way to compress a teacher.

    base: a student taught by it, a student that sees the labels alone, or the teacher's own network
    student: the whole configuration; empty for the teacher
    """

    base: Base
    student: Mapping[str, Any] = Field(default_factory=dict)
    prune_share: float = Field(0.0, ge=0, lt=1)
    precision: Precision = "fp32"

    @property
    def name(self) -> str:
        """`student_` or `teacher_` and six digits: the same point has the same name everywhere."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        kind = "teacher" if self.base == "teacher" else "student"
        return f"{kind}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"

    def words(self) -> str:
        """For people: `distilled past_width=16, pruned 40 %, int8_static`."""
        sizes = " ".join(f"{name}={value}" for name, value in self.student.items())
        pruned = [f"pruned {self.prune_share:.0%}"] if self.prune_share else []
        return ", ".join([f"{self.base} {sizes}".strip(), *pruned, self.precision])

    def in_full(self) -> "Point":
        """The same with 32 bits: what is exported before its precision is reduced."""
        return self.model_copy(update={"precision": "fp32"})

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of the teacher with this student, pruning and precision."""
        student = type(recipe.model).model_validate(dict(self.student)) if self.student else recipe.student
        pruned = {"enabled": self.prune_share > 0, "method": "structured", "share": self.prune_share}
        is_full = self.precision == "fp32"
        method = "static" if is_full else self.precision.removeprefix("int8_")
        return recipe.model_copy(
            update={
                "student": student,
                "distil": recipe.distil.model_copy(update={"enabled": self.base != "teacher"}),
                "prune": recipe.prune.model_copy(update=pruned),
                "quantise": recipe.quantise.model_copy(update={"enabled": not is_full, "method": method}),
            }
        )


@dataclass(frozen=True)
class Space:
    """Every point that may be tried, each choice as a number from 0.

    student: the tried values of each setting, from small to large
    start: the student that the recipe itself names
    """

    student: Mapping[str, tuple[Any, ...]]
    start: Mapping[str, Any]
    shares: tuple[float, ...]
    bases: tuple[Base, ...] = BASES
    precisions: tuple[Precision, ...] = PRECISIONS

    @property
    def sizes(self) -> dict[str, int]:
        """How many values each choice has."""
        parts = {f"{STUDENT}{name}": len(values) for name, values in self.student.items()}
        return {**parts, "base": len(self.bases), "share": len(self.shares), "precision": len(self.precisions)}

    @property
    def num_points(self) -> int:
        """How many different points there are."""
        students = prod(len(values) for values in self.student.values())
        num_bases = students * (len(self.bases) - 1) + 1
        return num_bases * len(self.shares) * len(self.precisions) - 1  # the teacher as it is, is none

    def point(self, numbers: Mapping[str, int]) -> Point:
        """The point with these numbers; raises KeyError or IndexError for others than `sizes` has."""
        base = self.bases[numbers["base"]]
        tried = {name: values[numbers[f"{STUDENT}{name}"]] for name, values in self.student.items()}
        return Point(
            base=base,
            student={} if base == "teacher" else {**self.start, **tried},
            prune_share=self.shares[numbers["share"]],
            precision=self.precisions[numbers["precision"]],
        )

    def starts(self) -> Iterator[dict[str, int]]:
        """Points worth trying before anything is known: the recipe's student and smaller ones, most in int8."""
        named = {name: values.index(self.start[name]) for name, values in self.student.items()}
        smallest = dict.fromkeys(self.student, 0)
        middle = {name: number // 2 for name, number in named.items()}
        wished: list[tuple[Mapping[str, int], Base, float, Precision]] = [
            (named, "distilled", 0.0, "int8_static"),
            (middle, "distilled", 0.0, "int8_static"),
            (middle, "distilled", 0.0, "fp16"),
            (named, "distilled", 0.0, "fp16"),
            (named, "distilled", 0.2, "fp16"),
            (named, "distilled", 0.2, "int8_dynamic"),
            (named, "distilled", 0.4, "int8_static"),
            (named, "distilled", 0.4, "fp16"),
            (named, "hard", 0.0, "int8_static"),
            (smallest, "distilled", 0.0, "int8_static"),
            (middle, "hard", 0.0, "fp16"),
            (named, "teacher", 0.4, "int8_static"),
        ]
        for sizes, base, share, precision in wished:
            if base not in self.bases or precision not in self.precisions:
                continue
            yield {
                **{f"{STUDENT}{name}": number for name, number in sizes.items()},
                "base": self.bases.index(base),
                "share": self.shares.index(share) if share in self.shares else 0,
                "precision": self.precisions.index(precision),
            }


def is_teacher(point: Point) -> bool:
    """Whether nothing at all was done."""
    return point.base == "teacher" and not point.prune_share and point.precision == "fp32"


def space_of(card: FamilyCard, recipe: Recipe) -> Space:
    """What may be tried for this recipe's student. Raises SpaceError for a baseline, which is fitted, not trained."""
    if card.is_baseline:
        raise SpaceError(f"{recipe.name} is a baseline: it is fitted in closed form, there is nothing to compress")
    start = (recipe.student or recipe.model).model_dump(mode="json")
    wished = {name: _plain(values) for name, values in card.search.items()} or _scaled(start)
    values = {name: _ordered({*map(_key, values), _key(start[name])}) for name, values in wished.items()}
    can_shrink = hasattr(card.load(), "prunable")
    shares = tuple(sorted({*SHARES, recipe.prune.share})) if can_shrink else (0.0,)
    return Space(values, start, shares)


def _scaled(start: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Eighths, quarters and halves of everything that looks like a width."""
    found = {name: value for name, value in start.items() if any(part in name for part in WIDTH_LIKE)}
    return {
        name: [_shrunk(value, scale) for scale in SCALES]
        for name, value in found.items()
        if isinstance(value, int | list) and not isinstance(value, bool) and value
    }


def _shrunk(value: Any, scale: float) -> Any:
    return [max(1, round(one * scale)) for one in value] if isinstance(value, list) else max(1, round(value * scale))


def _plain(values: tuple[Any, ...]) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _key(value: Any) -> str:
    return json.dumps(value)


def _ordered(keys: set[str]) -> tuple[Any, ...]:
    """The values, small ones first."""
    values = [json.loads(key) for key in keys]
    return tuple(sorted(values, key=lambda value: (sum(value) if isinstance(value, list) else value, str(value))))
