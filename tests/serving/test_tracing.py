"""Traces, as a collector gets them over HTTP."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serving.api import Api
from serving.server import Server
from serving.settings import Settings

Body = Callable[..., dict[str, Any]]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes what an exporter sends."""

    def __init__(self) -> None:
        self.asked: list[ExportTraceServiceRequest] = []
        self.paths = set[str]()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Span]:
        """Those that came, in the order they began."""
        found = [s for a in self.asked for r in a.resource_spans for scope in r.scope_spans for s in scope.spans]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        self.server.paths.add(self.path)
        self.server.asked.append(ExportTraceServiceRequest.FromString(raw))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def traced(scene: Any, collector: Collector, *asked: tuple[str, dict[str, Any]], **headers: str) -> list[Span]:
    """The spans of these requests, once the server has ended."""

    async def scenario(_: httpx.AsyncClient, server: Server) -> None:
        api = Api(server)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://nba") as client:
            for path, body in asked:
                await client.post(path, json=body, headers=headers)
        assert api._tracing is not None
        api._tracing.close()

    scene.play(scenario, otlp_endpoint=collector.url)
    return collector.spans()


def test_a_decision_is_a_span_with_its_stages_in_it(scene: Any, collector: Collector, body: Body) -> None:
    """The claim comes twice: it is taken before the log, and marked as logged after it."""
    decide, *stages = traced(scene, collector, ("/v1/decide", body(decision_id="d")))
    assert collector.paths == {"/v1/traces"}
    assert (decide.name, decide.kind) == ("decide", Span.SPAN_KIND_SERVER)
    assert [stage.name for stage in stages] == ["features", "policy", "claim", "log", "claim"]
    for stage in stages:
        assert (stage.trace_id, stage.parent_span_id) == (decide.trace_id, decide.span_id)
        assert decide.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= decide.end_time_unix_nano


def test_a_span_says_what_was_decided_and_nothing_of_the_customer(scene: Any, collector: Collector, body: Body) -> None:
    decide, *_ = traced(scene, collector, ("/v1/decide", body(context={"sentiment": -0.123456})))
    told = attributes(decide)
    assert (told["nba.pack"], told["nba.moment"], told["nba.policy.version"]) == ("support", "tone_tuner", "1")
    assert (told["nba.policy.arm"], told["nba.mode"], told["nba.decisions"]) == ("champion", "online", 1)
    for secret in ("u-381", "-0.123456"):
        assert all(secret not in str(request) for request in collector.asked)


def test_a_trace_goes_on_from_the_request(scene: Any, collector: Collector, body: Body) -> None:
    decide, *_ = traced(scene, collector, ("/v1/decide", body()), traceparent=f"00-{TRACE}-{PARENT}-01")
    assert (decide.trace_id.hex(), decide.parent_span_id.hex()) == (TRACE, PARENT)


def test_what_the_caller_does_not_sample_is_not_traced(scene: Any, collector: Collector, body: Body) -> None:
    assert traced(scene, collector, ("/v1/decide", body()), traceparent=f"00-{TRACE}-{PARENT}-00") == []


def test_a_traceparent_that_is_none_begins_a_new_trace(scene: Any, collector: Collector, body: Body) -> None:
    decide, *_ = traced(scene, collector, ("/v1/decide", body()), traceparent="00-zz-01")
    assert decide.parent_span_id == b""


def test_a_batch_is_one_span_and_an_error_names_its_code(scene: Any, collector: Collector, body: Body) -> None:
    batch = ("/v1/decide:batch", {"decisions": [body(), body()]})
    spans = traced(scene, collector, batch, ("/v1/decide", body(moment="unheard_of")))
    roots = {span.name: attributes(span) for span in spans if not span.parent_span_id}
    assert roots["decide_batch"] == {"nba.decisions": 2}
    assert roots["decide"] == {"nba.decisions": 1, "error.type": "unknown_moment"}


def test_a_collector_that_is_away_costs_no_decision(scene: Any, collector: Collector, body: Body) -> None:
    async def scenario(_: httpx.AsyncClient, server: Server) -> None:
        api = Api(server)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://nba") as client:
            assert (await client.post("/v1/decide", json=body())).status_code == 201
        assert api._tracing is not None
        api._tracing.close()

    scene.play(scenario, otlp_endpoint="http://127.0.0.1:1")


def test_without_an_endpoint_no_exporter_is_loaded() -> None:
    """redis-py loads OpenTelemetry's API and SDK by itself where they are there; we load nothing."""
    script = (
        "import sys; import serving.api, serving.server; serving.api._tracing(None);"
        "sys.exit(any(name.startswith(('opentelemetry.exporter', 'serving.tracing')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, "http://a"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "NBA_OTLP_ENDPOINT": "http://b"}, "http://b"),
    ],
)
def test_the_endpoint_is_ours_or_the_usual_variable(environment: dict[str, str], endpoint: str | None) -> None:
    assert Settings.from_environment(environment=environment).otlp_endpoint == endpoint
