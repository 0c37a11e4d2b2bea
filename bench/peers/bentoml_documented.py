"""A Bento as BentoML's documentation writes it: a class, an `api` method with typed lists, torch."""

from typing import Any

import bentoml
import torch

from bench.peers.network import load, tensors


@bentoml.service(workers=1)
class Documented:
    """Forecasts."""

    def __init__(self) -> None:
        self.network, self.facts = load()

    @bentoml.api
    def predict(self, data: list[dict[str, Any]]) -> list[list[list[float]]]:
        with torch.no_grad():
            output = self.network(*tensors(data, self.facts))
        return output.tolist()
