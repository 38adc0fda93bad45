"""OpenTelemetry spans and metrics of executions, steps, attempts and model calls."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Span, SpanKind, StatusCode

from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.journal import Journal
from kitaru.version import VERSION
from kitaru.wire.redaction import redacted, redacted_json

_LAST_WORDS_MS = 5000
_PATIENCE = 2.0
# litellm's name of a provider, where it differs from the conventions.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_given: ContextVar[tuple[int, int] | None] = ContextVar("kitaru_span_ids", default=None)


class _Ids(RandomIdGenerator):
    """Generates random ids, except for the span whose ids are set."""

    def generate_trace_id(self) -> int:
        given = _given.get()
        return given[0] if given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        given = _given.get()
        return given[1] if given else super().generate_span_id()


def ids_of(exec_id: str) -> tuple[int, int]:
    """Return the ids of an execution's trace and root span, the same in every process."""
    digest = hashlib.sha256(f"kitaru {exec_id}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def provider_of(model: str) -> str:
    """Return the model's provider by the conventions, `unknown` if its name shows none."""
    own, slash, _ = model.partition("/")
    return _PROVIDERS.get(own, own) if slash else "unknown"


def exporting() -> tuple[SpanProcessor, MetricReader]:
    """Return the exporters of spans and metrics over OTLP and HTTP, configured by OTEL_*.

    The process ends only after both have sent their data or given up. The default time limit is
    therefore short; a variable can raise it.
    """
    told = any(re.fullmatch(r"OTEL_EXPORTER_OTLP_(\w+_)?TIMEOUT", name) for name in os.environ)
    patience = None if told else _PATIENCE
    return (
        BatchSpanProcessor(OTLPSpanExporter(timeout=patience)),
        PeriodicExportingMetricReader(OTLPMetricExporter(timeout=patience)),
    )


class Telemetry:
    """The spans and metrics of this process."""

    def __init__(self, spans: SpanProcessor, metrics: MetricReader) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override it.
        resource = Resource({SERVICE_NAME: "kitaru"}).merge(Resource.create())
        if resource.attributes[SERVICE_NAME] == "unknown_service":
            resource = resource.merge(Resource({SERVICE_NAME: "kitaru"}))
        self._tracers = TracerProvider(id_generator=_Ids(), resource=resource)
        self._tracers.add_span_processor(spans)
        self._meters = MeterProvider([metrics], resource=resource)
        self._tracer = self._tracers.get_tracer("kitaru", VERSION)
        meter = self._meters.get_meter("kitaru", VERSION)
        self._attempts = meter.create_histogram("kitaru.checkpoint.duration", "s")
        self._executions = meter.create_histogram("kitaru.execution.duration", "s")
        self._requests = meter.create_histogram("gen_ai.client.operation.duration", "s")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}")
        self._step: Span | None = None

    def begin_step(self, journal: Journal, step: str) -> None:
        """Start the span of the step that this process runs; `close` ends it."""
        execution = journal.execution
        attributes = {"kitaru.step": step, "kitaru.target": execution.target}
        context = self._root(journal)
        self._step = self._start(f"step {step}", context, {**_about(journal), **attributes})

    def ended(self, journal: Journal, status: str) -> None:
        """Create the root span of an execution's trace after the execution has ended."""
        started = datetime.fromisoformat(journal.execution.started_at).timestamp()
        about = {**_about(journal), "kitaru.execution.status": status}
        token = _given.set(ids_of(journal.exec_id))
        try:
            span = self._start(
                f"execution {journal.execution.flow}",
                contexts.Context(),
                about,
                start_time=int(started * 1e9),
            )
        finally:
            _given.reset(token)
        if status == "failed":
            span.set_status(StatusCode.ERROR)
        span.end()
        measured = {k: about[k] for k in ("kitaru.flow", "kitaru.execution.status")}
        self._executions.record(max(time.time() - started, 0.0), measured)

    @contextmanager
    def attempt(self, journal: Journal, call: Call, number: int) -> Iterator[None]:
        """Enclose one attempt in a span, the parent of spans that the user's code creates."""
        spec = call.spec
        measured = {"kitaru.flow": journal.execution.flow, "kitaru.checkpoint": spec.name}
        about = {
            **_about(journal),
            "kitaru.checkpoint": spec.name,
            "kitaru.invocation.id": call.id,
            "kitaru.invocation.kind": spec.kind,
            "kitaru.attempt": number,
            "code.function.name": spec.callee,
        }
        parent = trace.set_span_in_context(self._step) if self._step else self._root(journal)
        with self._timed(f"{spec.kind} {spec.name}", parent, about, self._attempts, measured):
            yield

    @contextmanager
    def model_call(
        self, model: str, asked: Mapping[str, Any], facts: dict[str, Any]
    ) -> Iterator[None]:
        """Enclose a request to a model, by the conventions for generative AI."""
        measured = _of_model(model)
        about = {f"gen_ai.request.{k}": v for k, v in asked.items() if v is not None} | measured
        name = f"chat {measured['gen_ai.request.model']}"
        timed = self._timed(name, None, about, self._requests, measured, SpanKind.CLIENT)
        with timed as span:
            yield
            self._told(span, facts, measured)

    def model_called(self, model: str, facts: Mapping[str, Any]) -> None:
        """Create the span of a request that somebody else has made, and that has just ended."""
        measured, ended = _of_model(model), time.time_ns()
        began = ended - int(facts["latency_s"] * 1e9)
        name = f"chat {measured['gen_ai.request.model']}"
        span = self._start(name, None, measured, kind=SpanKind.CLIENT, start_time=began)
        self._told(span, facts, measured)
        span.end(ended)
        self._requests.record(facts["latency_s"], redacted_json(measured))

    def close(self) -> None:
        """End the step's span and send all data."""
        if self._step is not None:
            self._step.end()
            self._step = None
        self._tracers.force_flush(_LAST_WORDS_MS)
        self._meters.force_flush(_LAST_WORDS_MS)

    def _start(
        self, name: str, parent: contexts.Context | None, about: Mapping[str, Any], **options: Any
    ) -> Span:
        """Start a span with the secrets in its texts hidden.

        The span of an attempt starts before the id of its invocation is recorded or rejected.
        """
        attributes = redacted_json(about)
        return self._tracer.start_span(redacted(name), parent, attributes=attributes, **options)

    @contextmanager
    def _timed(
        self,
        name: str,
        parent: contexts.Context | None,
        about: Mapping[str, Any],
        metric: Any,
        measured: dict[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[Span]:
        span = self._start(name, parent, about, kind=kind)
        started, token = time.perf_counter(), contexts.attach(trace.set_span_in_context(span))
        try:
            yield span
        except BaseException as error:
            measured["error.type"] = redacted(type(error).__qualname__)
            span.set_attribute("error.type", measured["error.type"])
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            contexts.detach(token)
            span.end()
            metric.record(time.perf_counter() - started, redacted_json(measured))

    def _told(self, span: Span, facts: Mapping[str, Any], measured: dict[str, Any]) -> None:
        for kind, count in (("input", "prompt"), ("output", "completion")):
            tokens = facts["tokens"][count]
            span.set_attribute(f"gen_ai.usage.{kind}_tokens", tokens)
            self._tokens.record(tokens, {**measured, "gen_ai.token.type": kind})
        span.set_attribute("gen_ai.response.finish_reasons", [facts["finish"]])
        span.set_attribute("kitaru.llm.tries", facts["tries"])
        if facts["cost"] is not None:
            span.set_attribute("kitaru.llm.cost", facts["cost"])

    def _root(self, journal: Journal) -> contexts.Context:
        """Return the context of an execution's root span, with that span's sampling decision."""
        trace_id, span_id = ids_of(journal.exec_id)
        sampled = self._tracers.sampler.should_sample(None, trace_id, "execution").decision
        flags = trace.TraceFlags(int(sampled is Decision.RECORD_AND_SAMPLE))
        above = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(above), contexts.Context())


def _of_model(model: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_of(model),
        "gen_ai.request.model": model.partition("/")[2] or model,
    }


def _about(journal: Journal) -> dict[str, Any]:
    return {"kitaru.execution.id": journal.exec_id, "kitaru.flow": journal.execution.flow}
