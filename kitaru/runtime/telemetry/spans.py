"""Start spans and metrics if telemetry is configured. Otherwise import nothing.

An execution is one trace, across all its processes and resumes: the ids of the trace and of its
root span are derived from the execution id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from kitaru.config import setting
from kitaru.errors import EnvironmentFailure

if TYPE_CHECKING:
    from kitaru.runtime.engine.calls import Call
    from kitaru.runtime.journal.journal import Journal
    from kitaru.runtime.telemetry.otel import Telemetry

_ENDPOINTS = ("", "TRACES_", "METRICS_")
_lock = threading.Lock()
_active: Telemetry | None = None


def begin(journal: Journal, step: str = "") -> None:
    """Start the telemetry of this process, which runs an execution or a `step` of one.

    Raises:
        EnvironmentFailure: telemetry is configured, and its packages are missing.
    """
    global _active
    with _lock:
        if _active is None and _wanted():
            _active = _loaded()
        if _active is not None and step:
            _active.begin_step(journal, step)


def use(telemetry: Telemetry | None) -> None:
    """Send spans and metrics to `telemetry` from now on; None sends none."""
    global _active
    _active = telemetry


def ended(journal: Journal, status: str) -> None:
    """Create the root span of an execution that has ended or failed."""
    if _active is not None:
        # The end is already recorded; an error here must not change it.
        with suppress(Exception):
            _active.ended(journal, status)


def attempt(journal: Journal, call: Call, number: int) -> AbstractContextManager[object]:
    """Return the context manager for one attempt of a call."""
    return nullcontext() if _active is None else _active.attempt(journal, call, number)


@contextmanager
def model_call(model: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Enclose a request to a model; the caller adds the facts of the answer to the yielded dict."""
    facts: dict[str, Any] = {}
    if _active is None:
        yield facts
        return
    with _active.model_call(model, asked, facts):
        yield facts


def model_called(model: str, facts: Mapping[str, Any]) -> None:
    """Create the span of a request that has ended just now."""
    if _active is not None:
        _active.model_called(model, facts)


def close() -> None:
    """Send the remaining spans, because this process may end now."""
    if _active is not None:
        with suppress(Exception):
            _active.close()


def _wanted() -> bool:
    said = setting("otel").value
    if said is None:
        said = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{one}ENDPOINT") for one in _ENDPOINTS)
    return bool(said) and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _loaded() -> Telemetry | None:
    try:
        from kitaru.runtime.telemetry.otel import Telemetry, exporting
    except ModuleNotFoundError as error:
        if setting("otel").value is None:
            # The variables may be meant for another program.
            return None
        raise EnvironmentFailure(
            f"Telemetry is switched on, and {error.name} is not installed.",
            help="pip install 'opentelemetry-sdk>=1.30' "
            "'opentelemetry-exporter-otlp-proto-http>=1.30'",
        ) from None
    return Telemetry(*exporting())
