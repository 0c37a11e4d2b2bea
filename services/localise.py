"""The positioning service: a vehicle's last fixes in, where it is out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="localise",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Localise:
    """`POST /predict` with {"data": {input: nested list}}; the data plane in `services.app` answers."""
