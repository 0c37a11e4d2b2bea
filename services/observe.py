"""What a service tells about itself.

Request counts, latencies, load, and which models it serves.

Plain numbers, turned into Prometheus families when somebody scrapes. BentoML's workers run prometheus_client in its
multiprocess mode, where every increment writes to a memory-mapped file.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Seconds. A small ONNX graph answers in tenths of a millisecond; a full batch takes some milliseconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)  # requests that shared one call


class Load:
    """How busy the event loop is; written by its thread alone.

    in_flight: HTTP requests whose head is read, and gRPC calls, whose answer is not written
    woken_s: when this turn of the event loop read its first request, by `time.perf_counter`; 0 before
    longest_wait_s: the longest that a request waited for its turn since somebody asked
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.woken_s = 0.0
        self.longest_wait_s = 0.0
        self.num_shed = 0
        self.num_refused_connections = 0

    def turn_ended(self) -> None:
        """The event loop goes on to its next turn."""
        self.woken_s = 0.0


class Metrics(Collector):
    """Counts of one serving process; one thread, the event loop's, writes them."""

    def __init__(self, load: Load | None = None, captured: Callable[[], Mapping[str, int]] | None = None) -> None:
        """`captured` counts what happened to predictions that were offered for capture."""
        self.load = load or Load()
        self._captured = captured
        self._answered: Counter[tuple[str, int]] = Counter()
        self._predictions: Counter[tuple[str, str]] = Counter()
        self._in_bucket = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._num_rows = 0
        self._batches = [0] * (len(BATCHES) + 1)
        self._num_batched = 0
        self._models: tuple[tuple[str, str, str], ...] = ()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, path: str, status: int) -> None:
        """Count one answer; `path` is a known route or "other", so that strangers cannot grow the label set."""
        self._answered[path, status] += 1

    def predicted(self, num_rows: int, seconds: float, model: str = "", protocol: str = "v2") -> None:
        """Count one prediction of `num_rows` that took `seconds` from the whole body to the answer."""
        self._num_rows += num_rows
        self._seconds += seconds
        self._in_bucket[bisect_left(BUCKETS, seconds)] += 1
        self._predictions[model, protocol] += 1

    def batched(self, num_requests: int) -> None:
        """Count one call of a graph that this many requests shared."""
        self._batches[bisect_left(BATCHES, num_requests)] += 1
        self._num_batched += num_requests

    def serving(self, models: Iterable[tuple[str, str, str]]) -> None:
        """Say which models are served (product, version, digest); without one the service counts as not ready."""
        self._models = tuple(models)

    def collect(self) -> Iterator[Metric]:
        """The families, for prometheus_client."""
        requests = CounterMetricFamily("roadworthy_requests", "Answered requests", labels=["path", "status"])
        for (path, status), count in self._answered.items():
            requests.add_metric([path, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily("roadworthy_predict_seconds", "From the whole body to the answer")
        seconds.add_metric([], _buckets(BUCKETS, self._in_bucket), self._seconds)
        yield seconds
        predictions = CounterMetricFamily("roadworthy_predictions", "Predictions", labels=["model", "protocol"])
        for labels, count in self._predictions.items():
            predictions.add_metric(labels, count)
        yield predictions
        yield CounterMetricFamily("roadworthy_predicted_rows", "Rows (windows or images) answered", self._num_rows)
        batches = HistogramMetricFamily("roadworthy_batch_requests", "Requests that shared one call of a graph")
        batches.add_metric([], _buckets(BATCHES, self._batches), self._num_batched)
        yield batches
        yield GaugeMetricFamily("roadworthy_ready", "1 when the parcel is verified", float(bool(self._models)))
        names = ["product", "version", "digest"]
        model = GaugeMetricFamily("roadworthy_model_info", "1 for each model served", labels=names)
        for one in self._models:
            model.add_metric(one, 1)
        yield model
        yield from self._load_families()

    def _load_families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("roadworthy_in_flight", "Requests being answered", self.load.in_flight)
        yield CounterMetricFamily("roadworthy_shed_requests", "503: waited past the deadline", self.load.num_shed)
        refused = self.load.num_refused_connections
        yield CounterMetricFamily("roadworthy_refused_connections", "503: too many connections", refused)
        wait = GaugeMetricFamily("roadworthy_loop_lag_seconds", "Longest wait for the event loop since the last scrape")
        wait.add_metric([], self.load.longest_wait_s)
        self.load.longest_wait_s = 0.0
        yield wait
        captured = CounterMetricFamily("roadworthy_captured", "Predictions offered for capture", labels=["state"])
        for state, count in (self._captured() if self._captured else {}).items():
            captured.add_metric([state], count)
        yield captured

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)


def _buckets(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    return list(zip([*map(str, bounds), "+Inf"], accumulate(counts), strict=True))
