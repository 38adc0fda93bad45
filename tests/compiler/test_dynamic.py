"""Checkpoints reached through a table or a variable are seen, and looking is no call."""

from __future__ import annotations

import pytest

from tests.compiler.helpers import plan_of

TABLES = """
TOOLS = {"a": a, "b": b}
TYPED: dict[str, object] = {"a": a, "b": b}
"""


def blocks(body: str) -> list[tuple[str, str, tuple[str, ...]]]:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    plan = plan_of(f"{TABLES}\n@flow\ndef main(x: str):\n{lines}\n")
    return [(block.kind, block.reason, block.calls) for block in plan.blocks[1:]]


@pytest.mark.parametrize(
    "call",
    [
        "TOOLS[x](1)",
        "TYPED[x](1)",
        "TOOLS.get(x)(1)",
        "(a if x else b)(1)",
        "(lambda f: f(1))(TOOLS[x])",
    ],
)
def test_a_call_through_a_value_is_a_region(call: str) -> None:
    found = blocks(f"y = {call}\nreturn c(y)")
    assert [kind for kind, _, _ in found] == ["region", "checkpoint"]
    assert found[0][1] == "KIT323"


def test_a_variable_is_followed() -> None:
    found = blocks("tool = TOOLS[x]\nagain = tool\ny = again(1)\nreturn c(y)")
    assert found[0] == ("region", "KIT323", ("a", "b"))


@pytest.mark.parametrize("look", ["len(TOOLS)", "', '.join(TOOLS)", "TOOLS.keys()", "list(TYPED)"])
def test_looking_at_a_table_calls_nothing(look: str) -> None:
    found = blocks(f"names = {look}\nreturn c(names)")
    assert [kind for kind, _, _ in found] == ["checkpoint"]
