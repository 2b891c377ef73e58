"""What the service counts, in the text form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bothways.serve.batching import Batcher

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one service. routes: paths that have a label of their own; all others are counted as one."""

    def __init__(self, routes: Callable[[], frozenset[str]]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self._routes, self.registry = routes, CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time and open files
        one: Any = {"registry": self.registry}
        self._requests = Counter("bothways_requests", "requests answered", ["path", "method", "status"], **one)
        self._seconds = Histogram("bothways_request_seconds", "until the answer", ["path"], buckets=SECONDS, **one)
        self._batches = Histogram("bothways_batch_size", "pictures of a batch", ["model"], buckets=SIZES, **one)
        self._waiting = Gauge("bothways_pictures_waiting", "pictures that wait for a batch", ["model"], **one)
        self._jobs = Gauge("bothways_jobs", "drawings that have not ended", ["state"], **one)
        self._held = Gauge("bothways_body_bytes", "bytes of bodies that are held", **one)

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        known = "/jobs/ID" if path.startswith("/jobs/") else path if path in self._routes() else "other"
        method = method if method in ("GET", "POST", "DELETE") else "other"
        self._requests.labels(known, method, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def batch_of(self, model: str) -> Callable[[int], None]:
        """What counts a batch of a model."""
        return self._batches.labels(model).observe

    def text(self, batchers: Mapping[str, Batcher], jobs: Mapping[str, int], held: int) -> tuple[bytes, str]:
        """(the metrics as they are now, their content type)."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        for name, batcher in batchers.items():
            self._waiting.labels(name).set(batcher.waiting)
        for state, count in jobs.items():
            self._jobs.labels(state).set(count)
        self._held.set(held)
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def missing() -> Any:
    """The module that the service needs and that is not installed, or None."""
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        try:
            __import__(name)
        except ImportError:
            return name
    return None
