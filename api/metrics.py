"""Figures of this process, in Prometheus' format; what the database tells is added at each scrape."""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts requests by route template, so that ids never become label values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "eioku_http_request_seconds",
            "Time from the request's arrival to the end of its answer.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.streams = Gauge(
            "eioku_http_streams_open", "Open server-sent event streams.", registry=self.registry
        )
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note one request."""
        key = (method, route, status)
        if key not in self._children:
            self._children[key] = self._requests.labels(method, route, str(status))
        self._children[key].observe(seconds)

    def page(self, now: Sequence[Metric]) -> bytes:
        """Everything, with `now` beside it, as text."""
        registry = CollectorRegistry()
        registry.register(_Fixed(now))
        return generate_latest(self.registry) + generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def gauge(name: str, text: str, label: str | None, values: Mapping[str, float]) -> Metric:
    """One gauge; with a label, a value for each of its values, else the one under ""."""
    family = GaugeMetricFamily(name, text, labels=[label] if label else None)
    for of, value in values.items():
        family.add_metric([of] if label else [], value)
    return family
