"""Counts of this process, in the form that Prometheus reads. Counting costs well below a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of request durations, in seconds."""


class _Durations:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Metrics(Collector):
    """Requests by route and status, counters by name, and gauges that are read when asked for."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, str, int], _Durations] = defaultdict(_Durations)
        self._counters: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._gauges: dict[tuple[str, str], Callable[[], float]] = {}
        self._totals: dict[tuple[str, str], Callable[[], float]] = {}
        self._families: list[Callable[[], Iterable[Metric]]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        durations = self._requests[method, route, status]
        durations.counts[bisect_left(BUCKETS, seconds)] += 1
        durations.total += seconds

    def count(self, name: str, meaning: str, by: int = 1) -> None:
        """Add to a counter."""
        self._counters[name, meaning] += by

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Register a value that is read at each scrape."""
        self._gauges[name, meaning] = read

    def total(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Register a count since the start, kept elsewhere, that is read at each scrape. `name` ends in `_total`."""
        self._totals[name, meaning] = read

    def families(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Register metrics with labels, made at each scrape."""
        self._families.append(read)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Give all metrics; the library calls this."""
        requests = HistogramMetricFamily(
            "lizenzserver_request_seconds", "Duration of requests", labels=["method", "route", "status"]
        )
        for (method, route, status), durations in list(self._requests.items()):
            requests.add_metric([method, route, str(status)], _cumulative(durations), durations.total)
        yield requests
        for (name, meaning), value in list(self._counters.items()):
            yield CounterMetricFamily(f"lizenzserver_{name}", meaning, value=value)
        for (name, meaning), read in self._totals.items():
            yield CounterMetricFamily(f"lizenzserver_{name}", meaning, value=read())
        for (name, meaning), read in self._gauges.items():
            yield GaugeMetricFamily(f"lizenzserver_{name}", meaning, value=read())
        for families in self._families:
            yield from families()


def _cumulative(durations: _Durations) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), durations.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
