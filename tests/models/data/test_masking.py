"""Personal values leave no trace in what is written."""

from pathlib import Path

import polars as pl
import pytest

from models.data.card import Contract, DatasetCard, PersonalColumn
from models.data.findings import BadDataError
from models.data.masking import mask, pseudonym
from models.data.prepare import prepare
from models.data.series import RawSeries
from models.data.snapshot import read_snapshot
from models.recipe import DataRecipe

PERSONAL = (
    PersonalColumn(name="plate"),
    PersonalColumn(name="lat", how="coarsen", grid_m=1000),
    PersonalColumn(name="lon", how="coarsen", grid_m=1000),
    PersonalColumn(name="driver", how="drop"),
)


@pytest.fixture
def personal_frame(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = pl.int_range(pl.len())
    return frame.with_columns(
        plate=pl.format("EX-MPLE-{}", numbers % 50),
        lat=45.371234 + numbers * 1e-5,
        lon=-122.581234 + numbers * 1e-5,
        driver=pl.lit("Jane Roe"),
    )


def test_raw_values_are_nowhere_in_the_snapshot(
    personal_frame: pl.DataFrame, card: DatasetCard, contract: Contract, plan: DataRecipe, tmp_path: Path
) -> None:
    card = card.model_copy(update={"contract": contract.model_copy(update={"personal": PERSONAL})})
    prepare(RawSeries(personal_frame), card, plan, b"secret", tmp_path)
    extra = read_snapshot(tmp_path).extra
    assert extra is not None
    assert extra.columns == ["time", "node", "plate", "lat", "lon"]
    assert extra["plate"].n_unique() == 50
    written = "".join(pl.read_parquet(path).write_csv() for path in tmp_path.glob("*.parquet"))
    written += "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    for secret in ("EX-MPLE", "45.371234", "122.581234", "Jane", "secret"):
        assert secret not in written


def test_pseudonyms_are_stable_keyed_and_separate_by_column() -> None:
    frame = pl.DataFrame({"plate": ["A", "B", "A", None]})
    masked = mask(frame, PERSONAL[:1], b"k")["plate"]
    assert masked[0] == masked[2] == pseudonym("A", "plate", b"k") != masked[1]
    assert masked[3] is None
    assert len({pseudonym("A", "plate", b"k"), pseudonym("A", "plate", b"other"), pseudonym("A", "badge", b"k")}) == 3


def test_positions_fall_into_cells_of_the_promised_size(personal_frame: pl.DataFrame) -> None:
    masked = mask(personal_frame, PERSONAL, b"k")
    off_north_m = (masked["lat"] - personal_frame["lat"]).abs().max() * 111_320  # type: ignore[operator]
    assert 0 < off_north_m <= 501
    assert masked["lat"].n_unique() <= 3
    assert masked["lon"].n_unique() <= 4


def test_refusals(personal_frame: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="key"):
        mask(personal_frame, PERSONAL, b"")
    with pytest.raises(BadDataError, match="plate"):
        mask(personal_frame.drop("plate"), PERSONAL, b"k")
    with pytest.raises(BadDataError) as error:
        mask(personal_frame.with_columns(lat=pl.lit("by the old mill")), PERSONAL, b"k")
    assert "mill" not in str(error.value)
