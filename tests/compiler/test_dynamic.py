"""Checkpoints reached through a table or a variable are seen, and looking is no call."""

from __future__ import annotations

import pytest

from tests.compiler.helpers import plan_of

TABLES = """
TOOLS = {"a": a, "b": b}
TYPED: dict[str, object] = {"a": a, "b": b}
OPEN = {"a": a, "b": b}
OPEN["n"] = n
"""


def blocks(body: str) -> list[tuple[str, str, tuple[str, ...]]]:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    plan = plan_of(f"{TABLES}\n@flow\ndef main(x: str):\n{lines}\n")
    return [(block.kind, block.reason, block.calls) for block in plan.blocks[1:]]


@pytest.mark.parametrize(
    "call",
    [
        "TOOLS.get(x)(1)",
        "OPEN[x](1)",
        "(a if x else b)(1)",
        "(lambda f: f(1))(TOOLS[x])",
    ],
)
def test_a_call_through_a_value_is_a_region(call: str) -> None:
    found = blocks(f"y = {call}\nreturn c(y)")
    assert [kind for kind, _, _ in found] == ["region", "checkpoint"]
    assert found[0][1] == "KIT323"


@pytest.mark.parametrize(
    "call", ["TOOLS[x](1)", "TYPED[x](1)", "TOOLS.get(x, b)(1)", "(TOOLS if x else TYPED)['a'](1)"]
)
def test_a_call_through_a_table_of_checkpoints_is_a_branch(call: str) -> None:
    found = blocks(f"y = {call}\nreturn c(y)")
    certain = "if x" not in call
    arms = [("checkpoint", "", ("a",)), ("checkpoint", "", ("b",)), ("join", "", ())]
    assert (found[:3] == arms) is certain


def test_a_variable_is_followed() -> None:
    found = blocks("tool = TOOLS[x]\nagain = tool\ny = again(1)\nreturn c(y)")
    assert found[0] == ("region", "KIT323", ("a", "b"))


@pytest.mark.parametrize("look", ["len(TOOLS)", "', '.join(TOOLS)", "TOOLS.keys()", "list(TYPED)"])
def test_looking_at_a_table_calls_nothing(look: str) -> None:
    found = blocks(f"names = {look}\nreturn c(names)")
    assert [kind for kind, _, _ in found] == ["checkpoint"]


FILLED = """
import functools
import elsewhere

TOOLS, HOOKS = {}, []

def tool(function):
    _put(function.__name__, function)
    return function

def named(name):
    return lambda function: _put(name, function)

def _put(name, function):
    TOOLS[name] = function
    return function

class Registry:
    def __init__(self): self.functions = {}
    def add(self, function): self.functions[function.__name__] = function; return function
    def use(self, name, *args): return self.functions[name](*args)

registry = Registry()

@checkpoint(gpu=1)
def s(x): ...
"""


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("@tool\n@checkpoint\ndef t(x): ...", "TOOLS[x](1)"),
        ("@checkpoint\n@tool\ndef t(x): ...", "TOOLS[x](1)"),
        ("@named('t')\n@checkpoint\ndef t(x): ...", "TOOLS[x](1)"),
        ("tool(s)", "TOOLS[x](1)"),
        ("TOOLS['s'] = s", "TOOLS[x](1)"),
        ("TOOLS.update(s=s)", "TOOLS.get(x)(1)"),
        ("HOOKS.append(s)", "[hook(1) for hook in HOOKS]"),
        ("HOOKS += [s]", "[hook(1) for hook in HOOKS]"),
        ("for f in (s,): TOOLS[f.__name__] = f", "TOOLS[x](1)"),
        ("def fill(): TOOLS['s'] = s\nfill()", "TOOLS[x](1)"),
        ("ALL = {f.__name__: f for f in (s,)}", "ALL[x](1)"),
        ("FIRST = {'s': s}\nALL = {**FIRST, **TOOLS}", "ALL[x](1)"),
        ("go = functools.partial(s, 1)", "go()"),
        ("registry.add(s)", "registry.use(x, 1)"),
        ("agent = elsewhere.Agent(tools=[s])", "agent.work(x)"),
        ("", "elsewhere.Agent(tools=[s]).work(x)"),
    ],
)
def test_what_is_put_into_a_table_may_be_called(module: str, call: str) -> None:
    flow = f"@flow\ndef main(x: str):\n    y = {call}\n    return c(y)\n"
    first, last = plan_of(f"{FILLED}\n{module}\n{flow}").blocks[1:]
    assert (first.reason, last.kind) == ("KIT323", "checkpoint")
    assert first.calls in (("s",), ("t",))


def test_a_variable_holds_what_is_put_into_it() -> None:
    found = blocks("hands = {}\nhands['a'] = a\ny = hands[x](1)\nreturn c(y)")
    assert found[0] == ("region", "KIT323", ("a",))
    found = blocks("hands = []\nhands.append(a)\ny = [hand(1) for hand in hands]\nreturn c(y)")
    assert found[1] == ("region", "KIT323", ("a",))
