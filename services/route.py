"""The routing service: the state of a network in, its travel times, and ways over it, out."""

import bentoml

from services.front import FrontService


@bentoml.service(
    name="route",
    service_class=FrontService,
    workers=1,
    metrics={"enabled": False},  # ours are at /metrics
    logging={"access": {"enabled": False}},
)
class Route:
    """`POST /predict` with {"data": {input: list}}, `POST /route`; the data plane in `services.app` answers."""
