#!/usr/bin/python3
"""An OTLP/HTTP collector: prints every span it is sent as one line of JSON. usage: collector.py ADDRESS PORT"""
import http.server
import json
import os
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
code = tempfile.TemporaryDirectory(prefix="overlaynet-otlp-")
protos = [os.path.join(where, name) for where, _, names in os.walk(here) for name in names if name.endswith(".proto")]
subprocess.run(["protoc", "-I", here, "--python_out", code.name, *protos], check=True)
sys.path.insert(0, code.name)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service  # noqa: E402

# What is loaded needs its files no more, and whoever ends this process leaves it no time to tidy up.
code.cleanup()


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = service.ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    print(json.dumps({
                        "path": self.path, "type": self.headers["Content-Type"], "unknown": len(request.UnknownFields()), "resource": attributes(resource.resource.attributes),
                        "scope": scope.scope.name, "name": span.name, "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                        "start": span.start_time_unix_nano, "end": span.end_time_unix_nano, "attributes": attributes(span.attributes),
                    }), flush=True)
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Collector)
print("collecting", flush=True)
server.serve_forever()
