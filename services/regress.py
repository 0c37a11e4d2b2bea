"""The regression service: the features of a row in, its value out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="regress",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Regress:
    """`POST /predict` with {"data": {"x": {feature: number}}}, or a table; the data plane in `services.app` answers."""
