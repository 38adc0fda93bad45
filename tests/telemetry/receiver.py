"""A real receiver of OTLP over HTTP on this machine, which keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Receiver:
    """What was received: spans, and the names of metrics."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    def take(self, path: str, data: bytes) -> None:
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(data)
            scopes = [scope for one in traces.resource_spans for scope in one.scope_spans]
            self.spans += [span for scope in scopes for span in scope.spans]
        else:
            metrics = ExportMetricsServiceRequest.FromString(data)
            scopes = [scope for one in metrics.resource_metrics for scope in one.scope_metrics]
            self.metrics |= {metric.name for scope in scopes for metric in scope.metrics}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive on a free port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            zipped = self.headers.get("content-encoding") == "gzip"
            receiver.take(self.path, gzip.decompress(data) if zipped else data)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
