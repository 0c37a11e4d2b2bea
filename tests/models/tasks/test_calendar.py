"""What a network is told of node and time: near slots alike, an unseen weekday as none."""

import torch

from models.data.shape import ForecastShape
from models.tasks.calendar import Identities

SHAPE = ForecastShape(past_steps=3, horizon_steps=2, num_nodes=4, num_channels=1, slots_per_day=288)


def told_of(identities: Identities, slot: int, weekday: int) -> torch.Tensor:
    return identities(torch.tensor([[slot, weekday]]))[0, 0]  # of node 0


def test_a_weekday_that_never_came_says_nothing():
    torch.manual_seed(0)
    identities = Identities(SHAPE, 5, 6, 3)
    weekdays = identities.weekday.weight
    for _ in range(20):
        loss = (identities(torch.tensor([[10, 0], [200, 0]])) - 1).square().mean()
        (slope,) = torch.autograd.grad(loss, weekdays)
        weekdays.data -= slope
    identities.eval()
    assert told_of(identities, 10, 0)[-3:].abs().min() > 0.1, "Mondays were learned"
    assert told_of(identities, 10, 4)[-3:].tolist() == [0.0, 0.0, 0.0]


def test_near_slots_are_told_alike_and_the_day_is_round():
    torch.manual_seed(0)
    identities = Identities(SHAPE, 5, 6, 3).eval()
    noon, after, evening = (told_of(identities, slot, 0) for slot in (144, 146, 216))
    assert (noon - after).norm() < 0.3 * (noon - evening).norm()
    midnight, before = told_of(identities, 0, 0), told_of(identities, 287, 0)
    assert (midnight - before).norm() < 0.3 * (noon - midnight).norm()
    assert identities(torch.zeros(2, 2, dtype=torch.int64)).shape == (2, 4, identities.width)
