"""Replay a recorded execution in a test, with the flow as it is now."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.errors import UsageError
from kitaru.runtime.executions.comparison import Comparison
from kitaru.runtime.executions.model_calls import calls_of, shown
from kitaru.runtime.llm.exchange import Answer
from kitaru.wire import canonical
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.runtime.llm.models import ModelRequest
    from kitaru.view import ExecutionView

_MAX_SHOWN = 120
# What a request and the record of its call have in common.
_ASKED = ("prompt", "system", "temperature", "max_tokens", "tools", "schema")


@dataclass(frozen=True, slots=True)
class ReplayedRecording:
    """A recorded execution, replayed by the code of the test.

    `print(replayed)`, or `assert replayed.same, replayed`, lists what ran and what differs.

    Attributes:
        run: the replay: its result, status, waits, invocations and model calls.
        comparison: the recorded execution and the replay side by side, as `kitaru executions diff`
            compares them.
    """

    run: ExecutionView
    comparison: Comparison

    @property
    def same(self) -> bool:
        """Whether inputs, invocations and results are equal."""
        return self.comparison.same

    @property
    def ran(self) -> list[str]:
        """The ids of the checkpoints, model calls and waits that ran."""
        kinds = ("checkpoint", "llm", "wait")
        return [
            one.id
            for one in self.run.invocations
            if one.kind in kinds and not (one.adopted_from or one.given)
        ]

    def __str__(self) -> str:
        """Return what ran again, and each difference on a line of its own."""
        lines = [f"ran: {', '.join(self.ran) or 'nothing'}"]
        for row in self.comparison.rows:
            if row.change == "changed":
                lines += [f"{row.id}: {_line(one)}" for one in row.differences] or [
                    f"{row.id}: other arguments"
                ]
            elif row.change != "same":
                where = "recording" if row.change == "only a" else "replay"
                lines.append(f"{row.id}: only in the {where}")
        lines += [_line(one) for one in self.comparison.differences]
        return "\n".join(lines)


def read_recording(recording: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the document of `kitaru executions export`, from a file or as it is.

    Raises:
        UsageError: the file cannot be read, or is not JSON.
    """
    if isinstance(recording, Mapping):
        return recording
    try:
        found = json.loads(Path(recording).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The recording {recording} cannot be read: {error}.",
            help=f"kitaru executions export EXEC --output {recording}",
        ) from None
    return found if isinstance(found, Mapping) else {}


class RecordedReplies:
    """The replies of an execution's model calls, by request."""

    def __init__(self, journal: Journal, changed: Mapping[str, str]) -> None:
        """`changed` are the aliases of models whose calls are not answered from the record."""
        self._lock = threading.Lock()
        self._answers: dict[str, list[Answer]] = {}
        for call in calls_of(journal.invocations()):
            if call.facts["asked"] not in changed and "prompt" in call.facts:
                self._add(shown(journal, call))

    def _add(self, facts: Mapping[str, Any]) -> None:
        key = canonical.digest([facts["asked"], *(facts.get(name) for name in _ASKED)])
        tokens = facts["tokens"]
        calls = tuple(facts.get("tool_calls", ()))
        answer = Answer(
            facts["response"], tokens["prompt"], tokens["completion"], facts["cost"], calls
        )
        self._answers.setdefault(key, []).append(answer)

    def take(self, request: ModelRequest) -> Answer | None:
        """Return the next recorded reply to an equal request, None without one."""
        fields = fields_of(request)
        key = canonical.digest([request.model, *(fields[name] for name in _ASKED)])
        with self._lock:
            left = self._answers.get(key)
            return left.pop(0) if left else None


def _line(difference: Any) -> str:
    old, new = (_short(value) for value in (difference.old, difference.new))
    where = "" if difference.path == "$" else f" {difference.path}"
    return f"{difference.of}{where}: {old} → {new}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
