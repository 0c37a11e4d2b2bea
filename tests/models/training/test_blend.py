"""The mean of fitted candidates: chosen on validation, never worse there than its best member."""

import torch
from torch import nn

from models.training.blend import Blend, choose_members
from models.training.objective import TaskLoss


class Off(nn.Module):
    """The last value, off by so much."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x, mask, clock):
        return x[:, -1:, :, 0].expand(-1, 4, -1) + self.by


def test_members_whose_errors_cancel_are_taken_together(traffic):
    members = {"high": Off(9.0), "low": Off(-9.0), "far": Off(80.0)}
    judge, device = TaskLoss("forecast", "mae", traffic.scaler), torch.device("cpu")
    alone = {name: choose_members({name: one}, judge, traffic.val, 15, device)[1] for name, one in members.items()}
    weights, loss = choose_members(members, judge, traffic.val, 15, device)
    assert set(weights) == {"high", "low"} and loss < min(alone.values())
    assert choose_members(members, judge, traffic.val, 1, device)[0].keys() <= {"high", "low"}


def test_the_mean_is_weighted_by_how_often_a_member_was_taken(traffic):
    inputs = {name: torch.from_numpy(array) for name, array in traffic.val.take(torch.arange(3).numpy()).inputs.items()}
    blend = Blend({"a": Off(0.0), "b": Off(3.0), "unused": Off(50.0)}, {"a": 2, "b": 1})
    assert torch.allclose(blend(**inputs), Off(1.0)(**inputs), atol=1e-4)
    assert set(dict(blend.members)) == {"a", "b"}
