"""Prometheus metrics of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one app. Labels are paths of the OpenAPI document, never names or ids."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kitaru_http_requests", "Finished requests.", ("method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "kitaru_http_request_seconds", "Duration of requests, without streams.", ("route",),
            registry=self._registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "kitaru_http_requests_in_flight", "Requests that have begun and not ended.",
            registry=self._registry,
        )  # fmt: skip
        self.streams = Gauge(
            "kitaru_http_streams", "Open streams of server-sent events.", registry=self._registry
        )

    def count(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a finished request. `seconds` is None for a stream."""
        self._requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
