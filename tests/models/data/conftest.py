"""A small regular series, as a long table, that tests bend out of shape."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models.data.card import Channel, Contract, DatasetCard
from models.recipe import DataRecipe

START = datetime(2024, 1, 1)


@pytest.fixture
def frame() -> pl.DataFrame:
    """300 steps of 15 min, sensors s1, s2, s10, speeds between 40 and 80 km/h, one flow."""
    rng = np.random.default_rng(0)
    times = [START + timedelta(minutes=15 * step) for step in range(300) for _ in range(3)]
    speed, flow = rng.uniform(40, 80, 900).round(2), rng.uniform(0, 2000, 900).round()
    return pl.DataFrame({"time": times, "node": ["s10", "s1", "s2"] * 300, "speed_kmh": speed, "flow_vph": flow})


@pytest.fixture
def contract() -> Contract:
    speed = Channel(name="speed_kmh", unit="km/h", minimum=0, maximum=150)
    return Contract(
        channels=(speed, Channel(name="flow_vph", unit="veh/h", minimum=0)), cadence_min=15, max_gap_steps=20
    )


@pytest.fixture
def card(contract: Contract) -> DatasetCard:
    return DatasetCard(name="toy", task="forecast", title="Toy", source="this test", licence="CC0", contract=contract)


@pytest.fixture
def plan() -> DataRecipe:
    return DataRecipe(name="toy", past_steps=4, horizon_steps=3, gap_steps=4)
