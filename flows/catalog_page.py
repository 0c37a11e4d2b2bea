"""The catalog as a page: every family with its paper, shapes and settings."""

from collections.abc import Iterable

from models import catalog
from models.catalog import FamilyCard
from models.data.card import DatasetCard

GATES = {
    "beat": "a candidate must beat it",
    "not_worse": "a candidate must not be worse",
    "": "shown beside the others",
}


def catalog_page(datasets: Iterable[DatasetCard]) -> str:
    """Markdown, the same for the same cards."""
    known = list(datasets)
    parts = [
        "# Catalog: every application, its families and its data",
        "Written by `roadworthy catalog --markdown`; a test compares. `roadworthy run TASK/FAMILY` trains, compresses,",
        "judges, and promotes what passes its gates.",
    ]
    head = "\n".join(parts[:1]) + "\n\n" + "\n".join(parts[1:])
    return "\n\n".join([head, *(_task(task, known) for task in catalog.TASKS)]) + "\n"


def _task(task: str, datasets: list[DatasetCard]) -> str:
    promise, shapes = catalog.TASKS[task]
    cards = sorted(catalog.families(task).values(), key=lambda card: (card.is_baseline, card.name))
    own = [card for card in datasets if card.task == task]
    lines = [f"## {task}", f"{promise}. `{shapes}`"]
    lines.append("\n".join(["| data set | what | licence |", "| --- | --- | --- |", *map(_dataset, own)]))
    return "\n\n".join([*lines, *map(_family, cards)])


def _dataset(card: DatasetCard) -> str:
    return f"| `{card.name}` | {card.title} | {card.licence} |"


def _family(card: FamilyCard) -> str:
    lines = [f"### {card.task}/{card.name}", f"{card.title}. {card.source}."]
    if card.is_baseline:
        lines.append(f"Baseline: {GATES[card.gate]}.")
    if card.measured:
        lines.append(f"Defaults: {card.measured}")
    settings = card.config().model_dump(mode="json")
    if settings:
        small = card.student.model_dump(mode="json") if card.student else {}
        lines.append("\n".join(["| setting | default | student |", "| --- | --- | --- |"] + [
            f"| `model.{name}` | {value} | {small.get(name, '')} |" for name, value in settings.items()
        ]))  # fmt: skip
    if card.recipe:
        listed = ", ".join(f"`{key}={value}`" for key, value in card.recipe.items())
        lines.append(f"Recipe: {listed}.")
    return "\n\n".join(lines)
