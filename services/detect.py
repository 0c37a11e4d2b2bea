"""The incident service: readings of loops in, a probability and alarms per station out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="detect",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Detect:
    """`POST /predict` with {"data": {input: nested list}}; the data plane in `services.app` answers."""
