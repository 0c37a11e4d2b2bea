"""The signal service: the state of a junction in, the phase to show next out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="control",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Control:
    """`POST /predict` with {"data": {input: nested list}}; the data plane in `services.app` answers."""
