"""The executions that the kit compares: a flow, its inputs and the answers to its waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.wire.structs import Struct, field

# Texts that orchestrators expand, that readers take for something else than a string, or that close
# a quote or a block.
HOSTILE = (
    "{{workflow.name}}", "{{$.inputs.parameters['x']}}", "$(params.x)", "${{parent.inputs.x}}",
    "{{ ds }}", "'); import os #", '"""', "$(id)", "`id`", "; rm -rf /", "a\nb: c", "no", "1e3",
    "0o17", "2026-11-22", "<<", "*x", "&x", "!!python/object:os.system", "{0.__class__}",
    '{"Get": "Parameters.x"}', '{"Std:Join": {}}', "\u202e", "\\", "'", '"', "--store=x", "-",
    "$.x", "States.Format('{}', $.x)", "%41", "$HOME", "\ud7ff\U0001f680", " space ", "\t",
)  # fmt: skip


class Case(Struct):
    """One execution; `answers` are by the names of waits."""

    flow: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        given = ", ".join(f"{k}={_short(v)}" for k, v in {**self.inputs, **self.answers}.items())
        return f"{self.flow}({given})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 20 else f"{text[:19]}…"


CASES = (
    Case("row", {"text": "owls"}),
    Case("row", {"text": "", "number": -1, "part": -0.25, "flag": False}),
    Case("documents", {"items": [1, "a", None, {"b": [True]}], "table": {"ä": 2**60}}),
    Case("branches", {"kind": "long"}),
    Case("branches", {"kind": "early"}),
    Case("branches", {"kind": "empty"}),
    Case("branches", {"kind": "else"}),
    Case("nested", {"a": True, "b": True, "c": True}),
    Case("nested", {"a": True, "b": False, "c": False}),
    Case("nested", {"a": False, "b": False, "c": False}),
    Case("review", {"topic": "owls"}, {"approve": True}),
    Case("review", {"topic": "owls"}, {"approve": False, "reason": "too \"short\""}),
    Case("rounds", {"most": 3}, {"good_0": False, "good_1": True}),
    Case("fan_out", {"numbers": [1, 2, 3]}),
    Case("fan_out", {"numbers": []}),
    Case("retried"),
    Case("failed", {"text": "luck"}),
    Case("caught", {"text": "luck"}),
    Case("stored", {"text": "owls"}),
    Case("gathered", {"numbers": [1, 2]}),
)  # fmt: skip
# What a container writes decides where these documents continue.
DISTURBED = tuple(
    next(case for case in CASES if case.flow == flow) for flow in ("branches", "review", "fan_out")
)
