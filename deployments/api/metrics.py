"""Figures for Prometheus: requests, what was sent, the queue of runs and how long they took."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}
_RUN_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one app. Labels have few values: routes by their pattern, never by what was asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lookbook_api_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lookbook_api_request_seconds",
            "Time to the end of the answer.",
            ("method", "route"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge("lookbook_api_requests_in_progress", "Requests under way.", registry=self.registry)
        self.sent = Counter("lookbook_api_sent_bytes", "Bytes of bodies sent.", ("route",), registry=self.registry)
        self.images = Counter("lookbook_api_images", "Images sent.", ("kind",), registry=self.registry)
        self.image_bytes = Counter("lookbook_api_image_bytes", "Bytes of images.", ("kind",), registry=self.registry)
        self.runs = Gauge("lookbook_runs", "Runs that have not ended.", ("flow", "state"), registry=self.registry)
        self.ended = Counter("lookbook_runs_ended", "Runs that ended.", ("flow", "state"), registry=self.registry)
        self.run_seconds = Histogram(
            "lookbook_run_seconds",
            "Time that runs took, from their start.",
            ("flow",),
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )
        self.snapshots = Gauge("lookbook_api_snapshots_held", "Snapshots in memory.", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """Count a request."""
        method = method if method in METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)
        self.sent.labels(route).inc(sent)

    def text(self) -> bytes:
        """Return all of them, as Prometheus reads them."""
        return generate_latest(self.registry)
