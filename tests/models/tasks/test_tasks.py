"""The tasks: physical units in and out, and losses that look at what is observed only."""

import numpy as np
import pytest
import torch
from torch import nn

from models.data.scaling import Scaler
from models.data.shape import ForecastShape, ImageShape
from models.tasks.classify import TASK as CLASSIFY
from models.tasks.forecast import TASK as FORECAST
from models.tasks.forecast import Scaled
from models.training.build import find_task

SHAPE = ForecastShape(past_steps=3, horizon_steps=2, num_nodes=4, num_channels=2, slots_per_day=96)


class Echo(nn.Module):
    """Gives the last step of the first channel back."""

    def forward(self, x, mask, clock):
        return x[:, -1:, :, 0].expand(-1, 2, -1)


def test_scaled_takes_and_gives_physical_units():
    network = FORECAST.wrap(Echo(), SHAPE, Scaler((60.0, 900.0), (15.0, 300.0)))
    inputs = {name: torch.from_numpy(array) for name, array in FORECAST.example_inputs(SHAPE, 5).items()}
    seen = inputs["mask"][:, -1, :, 0] > 0
    output = network(**inputs)[:, 0]
    torch.testing.assert_close(output[seen], inputs["x"][:, -1, :, 0][seen], atol=1e-4, rtol=1e-4)
    assert output[~seen].tolist() == [60.0] * int((~seen).sum()), "missing: the train mean"


def test_what_is_missing_does_not_matter_to_the_network():
    network = Scaled(Echo(), 4, (60.0, 900.0), (15.0, 300.0))
    inputs = {name: torch.from_numpy(array) for name, array in FORECAST.example_inputs(SHAPE, 5).items()}
    rubbish = torch.where(inputs["mask"] > 0, inputs["x"], torch.full_like(inputs["x"], 1e4))
    assert torch.equal(network.scale(rubbish, inputs["mask"]), network.scale(inputs["x"], inputs["mask"]))


@pytest.mark.parametrize("kind", FORECAST.losses)
def test_forecast_loss_is_over_observed_values_in_standard_deviations(kind):
    loss = FORECAST.loss(kind, 2.0)
    output, target = torch.tensor([[[6.0, 9.0]]]), torch.tensor([[[2.0, 0.0]]])
    mask = torch.tensor([[[1.0, 0.0]]])
    assert float(loss(output, target, mask)) == pytest.approx({"mae": 2.0, "mse": 4.0, "huber": 1.75}[kind])
    assert float(loss(output, target, torch.zeros_like(mask))) == 0


def test_classify_loss_is_over_labelled_images():
    loss = CLASSIFY.loss("cross_entropy", 1.0)
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])
    expected = float(torch.log(torch.exp(torch.tensor(-2.0)) + 1))
    assert float(loss(logits, target, torch.tensor([1.0, 0.0]))) == pytest.approx(expected)


def test_tasks_are_found_by_name_with_example_inputs():
    assert find_task("forecast") is FORECAST and find_task("classify") is CLASSIFY
    images = CLASSIFY.example_inputs(ImageShape(3, 5, 6, 2), 4)["x"]
    assert images.shape == (4, 3, 5, 6) and images.dtype == np.float32
    with pytest.raises(ModuleNotFoundError):
        find_task("no_such_task")
