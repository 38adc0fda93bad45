"""Parse the options of a replay: changed results, inputs and models."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.cli.values import pairs, parse_inputs
from kitaru.errors import UsageError
from kitaru.runtime.engine.questions import parse_value
from kitaru.runtime.executions.replay import Changes
from kitaru.runtime.journal.to_json import as_json

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal

_RESULTS = ("checkpoint", "wait", "llm", "tool", "agent")


@dataclass(frozen=True, slots=True)
class Asked:
    """The changes that the user passed, as strings."""

    start: str | None
    at: str | None
    sets: tuple[str, ...]
    inputs: tuple[str, ...]
    inputs_from: str | None
    reuse_unchanged: bool

    def changes(self, journal: Journal) -> Changes:
        """Return the changes for the replay of an execution."""
        results, models = _sets(self.sets)
        return Changes(
            start=self.start or "",
            at_failure=self.at is not None,
            results={id: _result(journal, id, text) for id, text in results.items()},
            inputs=self._inputs(journal),
            models=models,
            reuse_unchanged=self.reuse_unchanged,
        )

    def _inputs(self, journal: Journal) -> dict[str, Any]:
        """Return the changed inputs."""
        recorded = as_json(journal.fetch(journal.execution.inputs))
        texts = {name for name, value in recorded.items() if isinstance(value, str)}
        return parse_inputs(self.inputs, self.inputs_from, texts=texts)


def _sets(given: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return result strings by invocation, and models by alias."""
    results: dict[str, str] = {}
    models: dict[str, str] = {}
    for name, text in pairs(given, "--set").items():
        kind, _, of = name.partition(".")
        if not of or kind not in (*_RESULTS, "model"):
            raise UsageError(
                f"--set {name} is not one of checkpoint.ID, wait.NAME, llm.ID and model.ALIAS.",
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
            f"--set {id}: {text!r} is not JSON, and {id} returned a value of type {type}.",
            help=f"To set a string: --set {shlex.quote(quoted)}",
        )
    return value
