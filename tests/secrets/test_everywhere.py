"""A secret of any alphabet, put into every place of an execution, is found nowhere.

Searched are every object of a store, every byte of a SQLite store's files, what commands print, and
spans and metrics. More of it:

    KITARU_SECRETS_RUNS=2000 pytest tests/secrets/test_everywhere.py
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shlex
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import numpy
import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.cli import app
from kitaru.runtime import secrets
from kitaru.runtime.telemetry import spans
from kitaru.runtime.telemetry.otel import Telemetry
from kitaru.wire import redaction

from .searching import RUNS, SECRETS, contents, holders

NAME = "PLACED_KEY"


def raised(secret: str) -> Any:
    raise ValueError(secret, {"b": secret})


def printed(secret: str) -> None:
    sys.stdout.write("x" * 8190 + secret + "y" * 9000 + "\n" + secret)


def chained(secret: str) -> Any:
    cause = RuntimeError(secret)
    cause.add_note(f"a note: {secret}")
    raise ValueError("no secret") from cause


def zipped(secret: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", f"{'x' * 99}{secret}")
    return data.getvalue()


RESULTS: dict[str, Callable[[str], Any]] = {
    "text": lambda s: f"before {s} after",
    "unsorted dict": lambda s: {"z": 1, "a": [s]},
    "key": lambda s: {"z": 1, s: 2},
    "JSON": lambda s: json.dumps({"k": f"x{s}"}),
    "JSON without escapes": lambda s: json.dumps({"k": s}, ensure_ascii=False),
    "bytes": lambda s: f"[{s}]".encode(),
    "large bytes": lambda s: b"x" * 300_000 + s.encode(),
    "large text": lambda s: "x" * 300_000 + s,
    "base64": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "numpy": lambda s: numpy.array(["short", f"x{s}"]),
    "set": lambda s: {s, "b"},
    "raised": raised,
    "printed": printed,
    "hex": lambda s: s.encode().hex(),
    "URL": lambda s: f"https://host/?key={quote_plus(s)}",
    "shell": lambda s: f"curl -H {shlex.quote(s)}",
    "YAML": lambda s: yaml.safe_dump({"k": s, "l": [f"x {s}"]}),
    "repr": lambda s: repr({"k": [s]}),
    "zlib": lambda s: zlib.compress(f"a: {s}".encode()),
    "gzip": lambda s: gzip.compress(f"a: {s}".encode()),
    "zip": zipped,
    "zlib as text": lambda s: base64.b64encode(zlib.compress(f"a: {s}".encode())).decode(),
    "chained": chained,
    "prompt": lambda s: kitaru.llm(f"Say {s}.", model="offline"),
    "artifact name": lambda s: kitaru.save(s, 1),
    "metadata": lambda s: kitaru.log(remark={"z": 1, "a": s}),
    "artifact": lambda s: kitaru.save("file", {"z": 1, "a": s}),
}
BODIES: dict[str, Callable[[str], Any]] = {
    "memory": lambda s: kitaru.memory.set("k", {"z": 1, "a": s}),
    "memory key": lambda s: kitaru.memory.set(s, 1),
    "question": lambda s: kitaru.wait(name="w", question=s, schema=str),
    "schema": lambda s: kitaru.wait(name="w", schema={"type": "string", "enum": [s]}),
    "wait metadata": lambda s: kitaru.wait(name="w", metadata={"z": 1, "a": [s]}),
    "id": lambda s: made("nothing", id=s),
    "result": lambda s: {"z": 1, "a": s},
    "answer": lambda s: kitaru.wait(name="w", schema=str),
    "body prompt": lambda s: kitaru.llm(f"Say {s}.", model="offline"),
    "body raises": raised,
    "body chained": chained,
    "body prints": printed,
}


@checkpoint
def made(place: str) -> Any:
    return RESULTS[place](kitaru.secret(NAME)) if place in RESULTS else None


@flow
def places(place: str) -> Any:
    if place in RESULTS:
        try:
            made(place)
        finally:
            made("nothing")
        return None
    return BODIES[place](kitaru.secret(NAME))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # This file, which is that of the flow, contains the secrets of the examples.
    monkeypatch.setenv("KITARU_SOURCE", "off")
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    for name in ("_values", "_plan_references"):
        monkeypatch.setattr(secrets, name, {})
    yield


def shown(url: str, terminal: pytest.CaptureFixture[str]) -> bytes:
    """Return what commands print about the newest execution of a store."""
    for command in (["get", "latest"], ["get", "latest", "--json"], ["logs", "latest"]):
        app.run(["executions", *command, "--store", url])
    said = "\n".join(terminal.readouterr())
    assert "places" in said
    return said.encode()


class Watch:
    """The spans and metrics of this process."""

    def __enter__(self) -> Watch:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        spans.use(Telemetry(SimpleSpanProcessor(self._spans), self._metrics))
        return self

    def __exit__(self, *_: object) -> None:
        spans.use(None)

    def contents(self) -> dict[str, bytes]:
        made = [span.to_json() for span in self._spans.get_finished_spans()]
        measured = self._metrics.get_metrics_data()
        metrics = measured.to_json() if measured else ""
        return {"spans": "\n".join(made).encode(), "metrics": metrics.encode()}


def run(url: str, place: str, secret: str) -> None:
    """Run the flow with a secret in a place, and answer its wait where the answer is the place."""
    if places.options(store=url).run(place).settle(60) == "waiting" and place == "answer":
        client = KitaruClient(url)
        (waiting,) = client.executions.list()
        client.executions.input(waiting["exec_id"], f"it is {secret}").settle(60)


@settings(
    max_examples=RUNS, deadline=None,
    # An execution takes too long for a failure to be made smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@example(secret="A7600000000005", place="id", is_file=False)
@example(secret="\U00063fd4é\U000bf16fÊ{±³ÜzìÔÇ伪\U000a1fd8t", place="YAML", is_file=True)
@given(secret=SECRETS, place=st.sampled_from([*RESULTS, *BODIES]), is_file=st.booleans())
def test_nothing_that_is_kept_or_shown_holds_it(
    capfd: pytest.CaptureFixture[str], secret: str, place: str, is_file: bool
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        Watch() as watch,
    ):
        url = f"sqlite:{folder}/k.db" if is_file else f"memory:s{os.urandom(6).hex()}"
        patch.setattr(
            secrets, "find", lambda name: redaction.register_value(name, secret) or secret
        )
        try:
            run(url, place, secret)
        except kitaru.errors.KitaruError as error:
            assert secret not in f"{error} {error.help}"
        kept = contents(url) | watch.contents()
        assert not is_file or {"k.db", "k.db-wal"} <= kept.keys()
        ran = "\n".join(capfd.readouterr()).encode()
        if not place.endswith(("printed", "prints")):
            # What a flow prints itself appears on its terminal as it is.
            kept["terminal"] = ran
        assert not holders(secret, kept | {"commands": shown(url, capfd)}), place
