"""The forecasting service: readings of the last steps in, a forecast per sensor out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="forecast",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Forecast:
    """`POST /predict` with {"data": {"time": …, "values": [T][N]}}; the data plane in `services.app` answers."""
