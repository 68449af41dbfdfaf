"""A collector: receives OTLP over HTTP, and holds the spans by their trace."""

import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True)
class TraceReceiver:
    """The spans that came, and the deployment that sent each of them."""

    port: int
    spans: dict[str, list[tuple[str, Span]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, trace_id: str, num_spans: int) -> list[tuple[str, Span]]:
        """Of one trace, the earliest first; fewer after ten seconds."""
        deadline = time.monotonic() + 10
        while len(self.spans[trace_id]) < num_spans and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted(self.spans[trace_id], key=lambda each: each[1].start_time_unix_nano)

    def receive(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {
                each.key: each.value.string_value for each in resource.resource.attributes
            }
            for scope in resource.scope_spans:
                for span in scope.spans:
                    sent = attributes["emotion_llama.deployment"], span
                    self.spans[span.trace_id.hex()].append(sent)


@contextmanager
def trace_receiver() -> Iterator[TraceReceiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_packed = self.headers.get("Content-Encoding") == "gzip"
            receiver.receive(gzip.decompress(body) if is_packed else body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = TraceReceiver(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield receiver
    server.shutdown()
    server.server_close()
