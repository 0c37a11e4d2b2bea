"""What the gateway tells Prometheus: calls by service and status, their times, refusals."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class GatewayMetrics:
    """Counts of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "roadworthy_gateway_requests", "Answered calls", ["service", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "roadworthy_gateway_seconds", "From the head to the end of the answer", ["service"],
            buckets=BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "roadworthy_gateway_refused", "Calls refused at the gateway", ["service", "status"],
            registry=self._registry,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)

    def answered(self, service: str, status: int, seconds: float, is_refusal: bool) -> None:
        """Count one call."""
        self._requests.labels(service, status).inc()
        self._seconds.labels(service).observe(seconds)
        if is_refusal:
            self._refused.labels(service, status).inc()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
