"""Spans of real processes, sent to a real receiver; killed and resumed they are one trace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk")

from kitaru_compiler import compile_flow
from kitaru_targets import build, delivery, dry_run, registry

from kitaru.runtime.telemetry.otel import ids_of
from tests.telemetry.receiver import receiving

FLOW = """
import os, sys
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint(retries=1)
def first(x: int) -> int:
    if not Path("failed").exists():
        Path("failed").touch()
        raise ValueError("once")
    return x

@checkpoint
def second(x: int) -> int:
    if not Path("dead").exists():
        Path("dead").touch()
        # As a machine that goes away does it, once what came before is on its way.
        from kitaru.runtime.telemetry import spans
        spans.close()
        os._exit(9)
    return x + 1

@flow
def main(x: int = 1) -> int:
    return second(first(x))

if __name__ == "__main__":
    store = "sqlite:k.db"
    runs = main.resume("killed", store=store) if "resume" in sys.argv else main.options(
        store=store, exec_id="killed").run()
    print(runs.wait())
"""


def run(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "talks.py", *arguments],
        cwd=folder,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SERVICE_NAME": "mine"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_and_resumed_is_one_trace(tmp_path: Path) -> None:
    (tmp_path / "talks.py").write_text(FLOW)
    with receiving() as receiver:
        assert run(tmp_path, receiver.url).returncode == 9
        resumed = run(tmp_path, receiver.url, "resume")
    assert resumed.stdout == "2\n", resumed.stderr
    trace_id, root_id = ids_of("killed")[0].to_bytes(16), ids_of("killed")[1].to_bytes(8)
    assert {span.trace_id for span in receiver.spans} == {trace_id}
    assert sorted(span.name for span in receiver.spans) == [
        "checkpoint first",
        "checkpoint first",
        "checkpoint second",
        "execution main",
    ]
    below = [span.parent_span_id for span in receiver.spans if span.span_id != root_id]
    assert below == [root_id] * 3
    assert "kitaru.checkpoint.duration" in receiver.metrics


def test_the_steps_of_a_document_are_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each try of a step has a working directory of its own.
    text = FLOW.replace('Path("failed")', f"Path({str(tmp_path / 'failed')!r})")
    (tmp_path / "talks.py").write_text(text.replace('Path("dead").exists()', "True"))
    chosen = registry.get("kubeflow")
    compiled = compile_flow(tmp_path / "talks.py", "main", profile=chosen.profile)
    watched = replace(compiled.plan, settings={"otel": True})
    pins = set(delivery.requirements(watched)) - set(delivery.requirements(compiled.plan))
    assert pins == {*delivery.OPENTELEMETRY}
    written = build.write(compiled, chosen, tmp_path / "build")
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        url = f"sqlite:{tmp_path / 'k.db'}"
        exec_id = dry_run.run(written, inputs={"x": 1}, store_url=url, answers={})
    trace_id, root_id = ids_of(exec_id)
    spans = {span.name: span for span in receiver.spans}
    assert {span.trace_id for span in receiver.spans} == {trace_id.to_bytes(16)}
    steps = [span for span in receiver.spans if span.name.startswith("step ")]
    assert len(steps) >= 2
    assert {span.parent_span_id for span in steps} == {root_id.to_bytes(8)}
    own = {span.span_id for span in steps}
    assert spans["checkpoint second"].parent_span_id in own
    assert spans["execution main"].span_id == root_id.to_bytes(8)
