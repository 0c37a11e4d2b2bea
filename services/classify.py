"""The image classification service: pixels in, a label with its probabilities out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="classify",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Classify:
    """`POST /predict` with {"data": [C][H][W] or a list of them}; the data plane in `services.app` answers."""
