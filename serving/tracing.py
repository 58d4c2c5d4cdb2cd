"""Traces of decisions, for OpenTelemetry, where an endpoint is named; without one nobody imports this module.

    decide                            from the request's body to its answer
      features, policy, claim, log    as they took place, together with the decisions of others

A request's W3C `traceparent` is its trace's; the SDK's own variables (OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
OTEL_EXPORTER_OTLP_HEADERS, ...) hold. Spans are made when all is done, from times that are taken anyway, and are sent
by a thread: a collector that is slow or away costs spans, not decisions. No span says anything of the customer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nba.errors import NbaError
from serving.engine import Made, Timing
from serving.errors import status_of

PATH = "/v1/traces"  # of OTLP over HTTP, below the endpoint
SEND_S = 2.0  # longest time a collector may take to answer
_SERVER_FAULT = 500


class Tracing:
    """Sends spans to one collector."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is the collector's base URL, such as http://127.0.0.1:4318."""
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "nba")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH, timeout=SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("nba")
        self._propagator = TraceContextTextMapPropagator()

    def decided(
        self, name: str, headers: Mapping[str, str], timing: Timing, results: Sequence[Made | NbaError]
    ) -> None:
        """One span for a request that ends now, and one for each stage in it."""
        zero = time.time_ns() - int(time.perf_counter() * 1e9)  # of the stages' clock
        parent = self._propagator.extract(headers)
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.SERVER, start_time=zero + int(timing.started * 1e9)
        )
        if span.is_recording():
            _describe(span, results)
            here = set_span_in_context(span)
            for stage, started, ended in timing.stages.spans:
                child = self._tracer.start_span(stage, context=here, start_time=zero + int(started * 1e9))
                child.end(zero + int(ended * 1e9))
        span.end()

    def close(self) -> None:
        """Sends what is left, and ends."""
        self._provider.shutdown()


def _describe(span: Span, results: Sequence[Made | NbaError]) -> None:
    """What the decisions have in common, or the one decision."""
    span.set_attribute("nba.decisions", len(results))
    if len(results) == 1:
        _describe_one(span, results[0])


def _describe_one(span: Span, result: Made | NbaError) -> None:
    if isinstance(result, NbaError):
        span.set_attribute("error.type", result.code)
        if status_of(result) >= _SERVER_FAULT:
            span.set_status(StatusCode.ERROR)
        return
    decision = result.record.decision
    span.set_attributes(
        {
            "nba.pack": decision.pack,
            "nba.moment": decision.context.moment,
            "nba.action": decision.action_id,
            "nba.mode": decision.mode,
            "nba.policy.version": decision.policy.version,
            "nba.policy.kind": decision.policy.kind,
            "nba.policy.arm": decision.policy.arm,
            "nba.degraded": decision.degraded,
            "nba.replayed": result.replayed,
        }
    )
