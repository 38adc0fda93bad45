"""Decides what the options of a replay mean: results, inputs and models that are other ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.cli.values import pairs, parse_inputs
from kitaru.errors import UsageError
from kitaru.runtime.engine.questions import parse_value
from kitaru.runtime.executions.replay import Changes
from kitaru.runtime.journal.states import SHOWN
from kitaru.runtime.journal.to_json import as_json

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal

_RESULTS = ("checkpoint", "wait", "llm")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked to be otherwise, as texts."""

    start: str | None
    at: str | None
    sets: tuple[str, ...]
    inputs: tuple[str, ...]
    inputs_from: str | None

    def changes(self, journal: Journal) -> Changes:
        """Return what a replay of an execution changes."""
        results, models = _sets(self.sets)
        return Changes(
            start=self.start or "",
            at_failure=self.at is not None,
            results={id: _result(journal, id, text) for id, text in results.items()},
            inputs=self._inputs(journal),
            models=models,
        )

    def _inputs(self, journal: Journal) -> dict[str, Any]:
        """Return the inputs that are to be other ones than those of an execution."""
        recorded = as_json(journal.fetch(journal.execution.inputs))
        texts = {name for name, value in recorded.items() if isinstance(value, str)}
        return parse_inputs(self.inputs, self.inputs_from, texts=texts)


def _sets(given: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of results by invocation, and models by alias."""
    results: dict[str, str] = {}
    models: dict[str, str] = {}
    for name, text in pairs(given, "--set").items():
        kind, _, of = name.partition(".")
        if not of or kind not in (*_RESULTS, "model"):
            raise UsageError(
                f"--set {name} is none of checkpoint.ID, wait.NAME, llm.ID and model.ALIAS.",
                help="--set checkpoint.draft='a better draft'   --set model.fast=openai/gpt-4o",
            )
        (models if kind == "model" else results)[of] = text
    return results, models


def _result(journal: Journal, id: str, text: str) -> Any:
    record = journal.invocation(id)
    type = record.value.type if record is not None and record.value is not None else ""
    value = parse_value(text, is_text=type == "str")
    quoted = f"checkpoint.{id}={json.dumps(text)}"
    if value is text and type not in ("", "str", "NoneType"):
        raise UsageError(
            f"--set {id}: {text!r} is not JSON, and {id} returned a value of type {type}",
            help=f"If a text is what you mean: --set {shlex.quote(quoted)}",
        )
    return value


def filters(given: Sequence[str]) -> Mapping[str, str]:
    """Return `--where` pairs; raise UsageError for one that is not about flow or status."""
    named = pairs(given, "--where")
    unknown = [name for name in named if name not in ("flow", "status")]
    if unknown:
        raise UsageError(
            f"--where {unknown[0]} is neither flow nor status.", help="--where flow=review"
        )
    if named.get("status", "failed") not in SHOWN:
        raise UsageError(
            f"--where status={named['status']}: there is no such status.",
            help=f"one of {', '.join(SHOWN)}",
        )
    return named
