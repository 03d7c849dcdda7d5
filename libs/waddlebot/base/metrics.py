"""Counters of one module, in Prometheus' text and as JSON from the same registry."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Chat answers within a second; the buckets are finest where it matters.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """A module's registry. Names get the prefix `waddlebot_`."""

    def __init__(self, module: str) -> None:
        self.registry = CollectorRegistry()
        self.module = module
        self.requests = self.histogram("http_request_seconds", "Requests served.", ["method", "path", "status"])

    def counter(self, name: str, what: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"waddlebot_{self.module}_{name}", what, labels or [], registry=self.registry)

    def gauge(self, name: str, what: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"waddlebot_{self.module}_{name}", what, labels or [], registry=self.registry)

    def histogram(self, name: str, what: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(
            f"waddlebot_{self.module}_{name}", what, labels or [], registry=self.registry, buckets=BUCKETS_S
        )

    def as_text(self) -> str:
        return generate_latest(self.registry).decode()

    def as_json(self) -> dict[str, Any]:
        """`{metric: value}`, or `{metric: [{labels…, value}]}` where there are labels; buckets are left to the text."""
        found: dict[str, Any] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name.endswith(("_bucket", "_created")):
                    continue
                if sample.labels:
                    found.setdefault(sample.name, []).append({**sample.labels, "value": sample.value})
                else:
                    found[sample.name] = sample.value
        return found
