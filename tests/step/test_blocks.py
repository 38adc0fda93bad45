"""Generated code shows the user's source: file, lines, carets, names of nested functions."""

from __future__ import annotations

import traceback
from types import ModuleType
from typing import Any

import pytest

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.steps.blocks import load, located
from kitaru.wire.plan import Plan
from tests.step.build import block

STEPS = """\
def first(frame):
    x = frame["x"]
    y = x + [1 /
        0]
    return None, (lambda: y)
"""


def loaded(positions: tuple[Any, ...], steps: str = STEPS) -> Any:
    plan = Plan(
        flow="shop",
        module="user",
        file="user.py",
        line=40,
        doc="",
        kitaru="0",
        granularity="checkpoint",
        parameters=(),
        blocks=(block("first", "checkpoint", (None,), ("x",)),),
        steps=(),
        layout=(),
        positions=positions,
    )
    module = ModuleType("user")
    module.__file__ = "/project/user.py"
    return load(plan, located(plan, steps), module)["first"]


def failing_frame(function: Any) -> traceback.FrameSummary:
    with pytest.raises(ZeroDivisionError) as failure:
        function({"x": []})
    return traceback.extract_tb(failure.tb)[-1]


def test_lines_and_columns_come_from_the_table() -> None:
    lines = {"3": [52, 4], "4": [53, -2]}
    frame = failing_frame(loaded(({"function": "first", "lines": lines, "nodes": {}},)))
    assert (frame.filename, frame.name) == ("/project/user.py", "shop")
    assert (frame.lineno, frame.end_lineno) == (52, 53)
    assert (frame.colno, frame.end_colno) == (17, 7)


def test_what_the_table_does_not_know_stands_at_the_flow() -> None:
    frame = failing_frame(loaded(()))
    assert (frame.lineno, frame.end_lineno) == (40, 40)


def test_whole_statements_can_be_placed_node_by_node() -> None:
    # y = x + [1 / 0]: Assign, Name, BinOp, Name, List, BinOp, Constant, Constant
    nodes = [[7, column, 7, column + 3] for column in range(0, 32, 4)]
    positions = ({"function": "first", "lines": {}, "nodes": {"1": nodes}},)
    frame = failing_frame(loaded(positions))
    assert (frame.lineno, frame.colno, frame.end_colno) == (7, 20, 23)


def test_nested_functions_are_named_as_in_the_users_file() -> None:
    function = loaded((), STEPS.replace("[1 /\n        0]", "[1]"))
    _, nested = function({"x": [0]})
    assert (function.__name__, nested.__qualname__) == ("shop", "shop.<locals>.<lambda>")
    assert nested() == [0, 1]


@pytest.mark.parametrize("steps", ["def other(frame): ...\n", "def first(:\n"])
def test_a_steps_file_of_another_compilation_is_refused(steps: str) -> None:
    with pytest.raises(EnvironmentFailure, match=r"steps\.py"):
        loaded((), steps)
