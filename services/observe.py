"""What a service tells about itself: request counts, latencies and which model it serves.

Plain numbers, turned into Prometheus families when somebody scrapes. BentoML's workers run prometheus_client in its
multiprocess mode, where every increment writes to a memory-mapped file.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Seconds. A small ONNX graph answers in tenths of a millisecond; a full batch takes some milliseconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics(Collector):
    """Counts of one serving process; one thread, the event loop's, writes them."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._in_bucket = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._num_rows = 0
        self._model: tuple[str, str, str] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, path: str, status: int) -> None:
        """Count one answer; `path` is a known route or "other", so that strangers cannot grow the label set."""
        self._answered[path, status] += 1

    def predicted(self, num_rows: int, seconds: float) -> None:
        """Count one prediction of `num_rows` that took `seconds` from the whole body to the answer."""
        self._num_rows += num_rows
        self._seconds += seconds
        self._in_bucket[bisect_left(BUCKETS, seconds)] += 1

    def serving(self, product: str, version: int, digest: str) -> None:
        """Say which model is served; until then the service counts as not ready."""
        self._model = (product, str(version), digest)

    def collect(self) -> Iterator[Metric]:
        """The families, for prometheus_client."""
        requests = CounterMetricFamily("roadworthy_requests", "Answered requests", labels=["path", "status"])
        for (path, status), count in self._answered.items():
            requests.add_metric([path, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily("roadworthy_predict_seconds", "From the whole body to the answer")
        bounds = [*map(str, BUCKETS), "+Inf"]
        seconds.add_metric([], list(zip(bounds, accumulate(self._in_bucket), strict=True)), self._seconds)
        yield seconds
        yield CounterMetricFamily("roadworthy_predicted_rows", "Rows (windows or images) answered", self._num_rows)
        yield GaugeMetricFamily("roadworthy_ready", "1 when the parcel is verified", float(self._model is not None))
        model = GaugeMetricFamily(
            "roadworthy_model_info", "1 for the model served", labels=["product", "version", "digest"]
        )
        if self._model:
            model.add_metric(self._model, 1)
        yield model

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
