"""Fixes of random programs with several findings at once.

`KITARU_FIX_EXAMPLES=500 pytest tests/fixes/test_random.py` runs more of them.
"""

from __future__ import annotations

import ast
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kitaru_compiler.diagnostics.catalogue import rules

from tests.fixes.page import fixed

EXAMPLES = int(os.environ.get("KITARU_FIX_EXAMPLES", "8"))
SAFE = {code for code, rule in rules().items() if rule.fix and rule.fix.is_safe}
HEAD = """\
from datetime import datetime, timedelta

import kitaru
from kitaru import checkpoint, flow


"""
DECORATORS = [
    "@checkpoint", '@checkpoint(retries="3")', '@checkpoint(timeout="2.5")',
    "@checkpoint(retrys=2)",
    "@checkpoint(timeout=timedelta(minutes=5))  # long", '@checkpoint(retries="many")',
]  # fmt: skip
# Statements of a flow. Most have a finding, some of which have no fix or an unsafe one.
STATEMENTS = [
    'out.append(draft(topic, id="one"))',
    "out.append(draft(topic, id='one'))  # again",
    'assert draft(topic), "nothing"  # never',
    "out += [draft(t) for t in [topic, 'x']]",
    'for name in {"only"}:  # one\n    out.append(draft(name))',
    "if n > 90:\n    return out\n    draft('never')",
    "stamp = (  # when\n    datetime.now()\n)\nout.append(draft(str(stamp is None)))",
    'kitaru.wait(nmae="ok", qestion="Go?")',
    "# \u202e only for admins \u2066",
    'out.append(draft("left \u202e right"))',
    "while n > len(out):\n    out.append(draft(str(n)))",
    "f = lambda: n\nn = len(draft(topic))\nout.append(draft(str(f())))",
    "out += listed(out)",
    "print(topic)",
    "out.append(draft(\n    topic,  # the topic\n))",
]


@st.composite
def programs(draw: st.DrawFn) -> str:
    decorator = st.sampled_from(DECORATORS)
    body = draw(st.lists(st.sampled_from(STATEMENTS), min_size=2, max_size=5))
    lines = "\n".join(body).replace("\n", "\n    ")
    return (
        f"{HEAD}{draw(decorator)}\ndef draft(text: str) -> str:\n    return text\n\n\n"
        f"{draw(decorator)}\ndef listed(rows: list[str]) -> object:\n"
        "    return rows  # as given\n\n\n"
        f"@flow\ndef main(topic: str, n: int) -> object:\n    out: list[str] = []\n    {lines}\n"
        "    return out\n"
    )


class _Durable:
    """A stand-in for a checkpoint or a flow: the function, without Kitaru."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *args: Any, id: str = "", **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def map(self, *columns: list[Any]) -> Any:
        results = [self._function(*row) for row in zip(*columns, strict=True)]
        return SimpleNamespace(result=lambda: results)


def _decorator(function: Any = None, **_: Any) -> Any:
    return _Durable(function) if function is not None else _Durable


def behaviour(source: str) -> Any:
    """What a program returns or raises as plain Python."""
    kitaru = ModuleType("kitaru")
    names: dict[str, Any] = {"checkpoint": _decorator, "flow": _decorator}
    names |= {"wait": lambda **_: True, "log": lambda **_: None}
    vars(kitaru).update(names)
    printed: list[Any] = []
    with patch.dict(sys.modules, {"kitaru": kitaru}):
        scope: dict[str, Any] = {"__name__": "program", "print": lambda *args: printed.append(args)}
        try:
            exec(compile(source, "program", "exec"), scope)
            return scope["main"]("a topic", 7), printed
        except Exception as error:
            return type(error), str(error), printed


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="KITARU_FIX_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(programs())
def test_safe_fixes_keep_the_behaviour_and_end(source: str) -> None:
    text, before, after = fixed(source, unsafe=False)
    ast.parse(text)
    assert behaviour(text) == behaviour(source)
    assert {code for code in before if before.count(code) > after.count(code)} <= SAFE
    again, left, _ = fixed(text, unsafe=False)
    assert (again, left) == (text, after)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="KITARU_FIX_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(programs())
def test_unsafe_fixes_end_without_new_errors(source: str) -> None:
    text, before, after = fixed(source)
    ast.parse(text)
    new = {code for code in after if after.count(code) > before.count(code)}
    assert {rules()[code].severity for code in new} <= {"note"}
    assert fixed(text) == (text, after, after)
