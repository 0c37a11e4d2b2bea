"""The baselines of routing: empty streets, the last report, the usual at this time."""

import pytest
import torch

from models import catalog
from models.data.card import TensorSpec
from models.data.scaling import Scaler
from models.data.shape import TensorShape
from models.tasks.route import TASK
from models.tasks.tensors import TensorBatch

NUM_PAST, NUM_AHEAD, NUM_EDGES = 3, 2, 4
SHAPE = TensorShape(
    (TensorSpec(name="recent", shape=(NUM_PAST, NUM_EDGES), can_miss=True),
     TensorSpec(name="works", shape=(NUM_AHEAD, NUM_EDGES), scaled=False),
     TensorSpec(name="slot", shape=(1,), dtype="int64", scaled=False),
     TensorSpec(name="weekday", shape=(1,), dtype="int64", scaled=False)),
    TensorSpec(name="travel_time", shape=(NUM_AHEAD, NUM_EDGES), unit="s"),
)  # fmt: skip


def built(name: str) -> torch.nn.Module:
    card = catalog.family("route", name)
    return card.load()(SHAPE, card.config())


def batch(target: torch.Tensor, slot: int = 90, weekday: int = 0) -> TensorBatch:
    size = len(target)
    inputs = {
        "recent": torch.zeros(size, NUM_PAST, NUM_EDGES), "recent_mask": torch.ones(size, NUM_PAST, NUM_EDGES),
        "works": torch.zeros(size, NUM_AHEAD, NUM_EDGES), "slot": torch.full((size, 1), slot),
        "weekday": torch.full((size, 1), weekday),
    }  # fmt: skip
    return TensorBatch(inputs, target, torch.ones_like(target))


def test_live_holds_the_last_report_and_is_as_usual_where_there_is_none() -> None:
    live = built("live")
    live.fit([batch(torch.full((5, NUM_AHEAD, NUM_EDGES), 0.5))], [])
    recent = torch.arange(12.0).reshape(1, NUM_PAST, NUM_EDGES)
    mask = torch.ones_like(recent)
    mask[0, 2, 1] = mask[0, 1:, 2] = mask[0, :, 3] = 0
    assert live(recent=recent, recent_mask=mask).tolist() == [[[8.0, 5.0, 2.0, 0.5]] * NUM_AHEAD]


def test_free_flow_is_the_least_that_is_usual() -> None:
    free = built("free_flow")
    target = torch.linspace(0, 1, 101)[:, None, None].expand(-1, NUM_AHEAD, NUM_EDGES)
    free.fit([batch(target)], [])
    answer = free(recent=torch.ones(2, NUM_PAST, NUM_EDGES))
    assert answer.shape == (2, NUM_AHEAD, NUM_EDGES)
    assert answer.flatten().tolist() == pytest.approx([0.05] * answer.numel(), abs=0.01)


def test_profile_knows_the_time_of_day_and_the_weekend() -> None:
    profile, shape = built("profile"), (3, NUM_AHEAD, NUM_EDGES)
    profile.fit([batch(torch.full(shape, 0.3), slot=90), batch(torch.full(shape, 0.9), slot=90, weekday=6)], [])
    ask = {"slot": torch.tensor([[90], [90], [200]]), "weekday": torch.tensor([[2], [5], [2]])}
    assert profile(**ask)[:, 0, 0].tolist() == pytest.approx([0.3, 0.9, 0.0])
    profile.fit([batch(torch.full(shape, 0.3), slot=287)], [])
    assert profile(slot=torch.tensor([[287]]), weekday=torch.tensor([[0]]))[0, 0, 0] == pytest.approx(0.3), "midnight"


def test_the_wrapper_tells_edges_in_shares_of_their_usual_travel_time() -> None:
    scaler = Scaler((10.0, 20.0, 40.0, 80.0), (1.0, 9.0, 9.0, 9.0), {"recent": Scaler((1.0,) * 4, (1.0,) * 4)})
    wrapped = TASK.wrap(built("live"), SHAPE, scaler)
    inputs = {**batch(torch.zeros(1, NUM_AHEAD, NUM_EDGES)).inputs}
    del inputs["recent_mask"]
    inputs["recent"] = torch.tensor([15.0, 20.0, float("nan"), 160.0]).expand(1, NUM_PAST, NUM_EDGES)
    assert wrapped.scale(inputs)["recent"][0, 0].tolist() == pytest.approx([0.5, 0.0, 0.0, 1.0])
    assert wrapped(**inputs)[0, 0].tolist() == pytest.approx([15, 20, 40, 160], rel=1e-5)
