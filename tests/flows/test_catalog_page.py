"""The page of the catalog is what the cards say."""

from pathlib import Path

from flows.catalog_page import catalog_page
from models import catalog

PAGE = Path(__file__).parents[2] / "docs" / "catalog.md"


def test_the_page_is_written_by_its_command() -> None:
    again = "roadworthy catalog --markdown > docs/catalog.md"
    assert PAGE.read_text() == catalog_page(catalog.datasets().values()), again


def test_every_network_says_how_its_defaults_were_chosen_and_what_a_search_tries() -> None:
    networks = [card for card in catalog.all_families().values() if not card.is_baseline]
    assert [card.name for card in networks if not card.measured] == []


def test_every_task_has_a_network_a_baseline_and_data() -> None:
    for task in catalog.TASKS:
        cards = catalog.families(task).values()
        assert {card.is_baseline for card in cards} == {True, False}, task
        assert any(card.task == task for card in catalog.datasets().values()), task
