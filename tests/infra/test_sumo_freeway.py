"""The freeway data set from a scenario, as `data.seed` asks for it."""

from pathlib import Path

import polars as pl
import pytest

from infra import sumo_freeway
from infra.sumo_scenario import FreewayScenario

TINY = {
    "kind": "freeway", "seed": 7, "num_days": 1, "num_stations": 4, "hours": [6, 7], "warm_up_min": 15, "length_km": 5,
    "num_interchanges": 2,
}  # fmt: skip


def test_a_scenario_is_read_and_an_unknown_setting_refused() -> None:
    assert sumo_freeway.wanted({"kind": "freeway", "seed": 5}) == FreewayScenario(seed=5)
    assert sumo_freeway.wanted(TINY).hours == (6, 7)
    with pytest.raises(ValueError, match="unknown weather; known: num_days, num_stations, seed"):
        sumo_freeway.wanted({**TINY, "weather": "fine"})


@pytest.mark.sim
def test_days_become_the_files_of_the_data_set(tmp_path: Path) -> None:
    assert list(sumo_freeway.generate(TINY, tmp_path, 1)) == [(1, 1)]
    assert pl.read_parquet(tmp_path / "freeway.parquet").shape == (4 * 12, 5)
    assert (tmp_path / "freeway_stations.csv").is_file() and (tmp_path / "freeway_incidents.csv").is_file()
