"""What an API process of ours says of itself in /metrics."""

from __future__ import annotations

import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from bench.servers import Server


def answers(server: Server) -> Counter[int]:
    """Return how many requests were answered with which status."""
    found: Counter[int] = Counter()
    for family in text_string_to_metric_families(_scraped(server)):
        for sample in family.samples:
            if sample.name == "lizenzserver_request_seconds_count":
                found[int(sample.labels["status"])] += int(sample.value)
    return found


def gauge(server: Server, name: str) -> float:
    """Return the value of a gauge, named without our prefix."""
    for family in text_string_to_metric_families(_scraped(server)):
        if family.name == f"lizenzserver_{name}":
            return float(family.samples[0].value)
    raise LookupError(name)


def _scraped(server: Server) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as response:
        text: str = response.read().decode()
    return text
