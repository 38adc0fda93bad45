"""What spans and metrics say of a run in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kitaru
from kitaru import checkpoint, config, errors, flow
from kitaru.runtime.llm import providers
from kitaru.runtime.telemetry import otel
from kitaru.runtime.telemetry import spans as telemetry
from kitaru.runtime.telemetry.otel import Telemetry, ids_of, provider_of

FAILS: list[bool] = []


class Watch:
    """Everything that was made."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        telemetry.use(Telemetry(SimpleSpanProcessor(self._spans), self._metrics))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._spans.get_finished_spans()}

    def names(self) -> list[str]:
        return sorted(span.name for span in self._spans.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        data = self._metrics.get_metrics_data()
        assert data is not None
        [scope] = data.resource_metrics[0].scope_metrics
        return {metric.name: [*metric.data.data_points] for metric in scope.metrics}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    def answer(request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        if "fail" in request.prompt:
            raise ConnectionError("lost")
        return providers.Answer("text", 10, 5, 0.25, (), 2)

    monkeypatch.setattr(providers, "_reach", answer)
    FAILS.clear()
    yield Watch()
    telemetry.use(None)
    config.configure(otel=None)


@checkpoint(retries=1, cache=False)
def asks(prompt: str) -> str:
    text = kitaru.llm(prompt, model="vendor/m-1", temperature=0.5)
    if FAILS:
        FAILS.pop()
        raise ValueError("again")
    return text


@checkpoint(cache=False)
def child_of_others(x: int) -> str:
    return format(trace.get_current_span().get_span_context().span_id, "x")


@flow
def body(prompt: str = "secret question") -> list[str]:
    return [asks(prompt), *child_of_others.map([1, 2]).result()]


def test_one_trace_whose_ids_come_from_the_execution(watch: Watch) -> None:
    handle = body.run()
    handle.wait(300)
    trace_id, root_id = ids_of(handle.exec_id)
    spans = watch.spans()
    root = spans["execution body"]
    assert root.context.span_id == root_id and root.parent is None
    assert {span.context.trace_id for span in spans.values()} == {trace_id}
    parents = {name: span.parent.span_id for name, span in spans.items() if span.parent}
    assert parents["checkpoint asks"] == parents["checkpoint child_of_others"] == root_id
    assert parents["chat m-1"] == spans["checkpoint asks"].context.span_id
    assert root.attributes and root.attributes["kitaru.execution.status"] == "completed"
    started = root.start_time or 0
    assert all((span.start_time or 0) >= started for span in spans.values())


def test_what_runs_in_a_checkpoint_lies_below_it(watch: Watch) -> None:
    handle = body.run()
    seen = handle.wait(300)[1:]
    own = [
        format(span.context.span_id, "x")
        for span in watch._spans.get_finished_spans()
        if span.name == "checkpoint child_of_others"
    ]
    assert sorted(seen) == sorted(own) and len(set(own)) == 2


def test_a_model_call_by_the_conventions_and_without_a_text(watch: Watch) -> None:
    body.run().wait(300)
    attributes = dict(watch.spans()["chat m-1"].attributes or {})
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vendor",
        "gen_ai.request.model": "m-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ("stop",),
        "kitaru.llm.tries": 2,
        "kitaru.llm.cost": 0.25,
    }
    assert "secret question" not in "".join(map(repr, map(vars, watch.spans().values())))


def test_providers_have_the_names_of_the_conventions() -> None:
    models = ("openai/gpt-4o", "bedrock/anthropic.claude", "azure/own", "gpt-4o")
    found = [provider_of(model) for model in models]
    assert found == ["openai", "aws.bedrock", "azure.ai.openai", "unknown"]


def test_each_attempt_has_its_span_and_what_is_recorded_has_none(watch: Watch) -> None:
    FAILS.append(True)
    handle = body.run()
    handle.wait(300)
    attempts = [s for s in watch._spans.get_finished_spans() if s.name == "checkpoint asks"]
    assert [(s.attributes or {})["kitaru.attempt"] for s in attempts] == [1, 2]
    assert [s.status.is_ok for s in attempts] == [False, True]
    assert (attempts[0].attributes or {})["error.type"] == "ValueError"
    before = watch.names()
    assert body.resume(handle.exec_id).wait(300) == handle.get()
    assert watch.names() == before


def test_a_failed_run(watch: Watch) -> None:
    handle = body.run("fail")
    with pytest.raises(errors.CheckpointFailed):
        handle.wait(300)
    assert watch.names() == ["chat m-1"] * 2 + ["checkpoint asks"] * 2 + ["execution body"]
    assert not watch.spans()["execution body"].status.is_ok


def test_metrics(watch: Watch) -> None:
    body.run().wait(300)
    points = watch.points()
    assert set(points) == {
        "kitaru.checkpoint.duration",
        "kitaru.execution.duration",
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
    }
    tokens = {p.attributes["gen_ai.token.type"]: p.sum for p in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 10, "output": 5}
    counts = {
        p.attributes["kitaru.checkpoint"]: p.count for p in points["kitaru.checkpoint.duration"]
    }
    assert counts == {"asks": 1, "child_of_others": 2}


@pytest.mark.parametrize("variable", ["", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"])
def test_a_receiver_that_is_down_is_soon_given_up(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    given: list[float | None] = []
    for name in ("OTLPSpanExporter", "OTLPMetricExporter"):
        made = getattr(otel, name)
        monkeypatch.setattr(
            otel, name, lambda timeout, made=made: given.append(timeout) or made(timeout=timeout)
        )
    if variable:
        monkeypatch.setenv(variable, "30")
    for one in otel.exporting():
        one.shutdown()
    assert given == ([None, None] if variable else [2.0, 2.0])


def test_off_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "TRACES_", "METRICS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT", raising=False)
    assert not telemetry._wanted()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    assert telemetry._wanted()
    monkeypatch.setenv("KITARU_OTEL", "false")
    assert not telemetry._wanted()
    monkeypatch.setenv("KITARU_OTEL", "true")
    assert telemetry._wanted()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not telemetry._wanted()


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kitaru.runtime.telemetry.otel", None)
    assert telemetry._loaded() is None
    monkeypatch.setenv("KITARU_OTEL", "true")
    with pytest.raises(errors.EnvironmentFailure, match="pip install 'opentelemetry-sdk"):
        telemetry._loaded()
