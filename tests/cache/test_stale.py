"""A cached result is the one that the checkpoint would return now, whatever has changed between."""

from __future__ import annotations

import sys
import textwrap
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kitaru import checkpoint, flow
from kitaru.errors import UsageError
from kitaru.runtime.codec.reach import State
from kitaru.runtime.engine import awaiting
from kitaru.runtime.engine.execution import Execution, Scope, entered
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.structs import replace
from tests.sdk.test_checkpoint import invocations

httpx = pytest.importorskip("httpx")

# Each piece of state: its definition, how it is read, and how it is set to `value` (an int).
KINDS = {
    "global": ("G = 0", "G", "G = value"),
    "default of a context variable": (
        "from contextvars import ContextVar\nCV = ContextVar('CV', default=[0])",
        "CV.get()[0]",
        "CV.get()[0] = value",
    ),
    "dict": ("D = {'a': [0]}", "D['a'][0]", "D['a'][0] = value"),
    "set": ("S = {0}", "sum(S)", "S.clear(); S.add(value)"),
    "class": ("class K:\n    kind = 0", "K.kind", "K.kind = value"),
    "static": (
        "class M:\n    @staticmethod\n    def of(): return 0",
        "M.of()",
        "M.of = staticmethod(lambda: value)",
    ),
    "object": (
        "class O:\n    def __init__(self): self.x = [0]\nOBJECT = O()",
        "OBJECT.x[0]",
        "OBJECT.x[0] = value",
    ),
    "slots": (
        "class T:\n    __slots__ = ('x',)\nSLOT = T(); SLOT.x = 0",
        "SLOT.x",
        "SLOT.x = value",
    ),
    "subclass": ("class R(dict): pass\nREG = R(a=0)", "REG['a']", "REG['a'] = value"),
    "userdict": (
        "from collections import UserDict\nUD = UserDict(a=0)",
        "UD['a']",
        "UD['a'] = value",
    ),
    "default": ("def dflt(n=0): return n", "dflt()", "dflt.__defaults__ = (value,)"),
    "keyword": ("def kw(*, n=0): return n", "kw()", "kw.__kwdefaults__ = {'n': value}"),
    "closure": (
        "def maker(n):\n    def inner(): return n\n    return inner\nCL = maker(0)",
        "CL()",
        "CL = maker(value)",
    ),
    "replaced": ("def helper(): return 0", "helper()", "helper = lambda: value"),
    "table": ("TABLE = {'f': lambda: 0}", "TABLE['f']()", "TABLE['f'] = lambda: value"),
    "context": (
        "from contextvars import ContextVar\nCV = ContextVar('CV', default=0); CV.set(0)",
        "CV.get()",
        "CV.set(value)",
    ),
    "settings": (
        "import functools, types\nCONF = types.SimpleNamespace(m=0)\n"
        "@functools.lru_cache\ndef conf(): return CONF",
        "conf().m",
        "CONF.m = value",
    ),
    "cached": (
        "import functools\nSOURCE = [0]\n@functools.cache\ndef remembered(): return SOURCE[0]",
        "remembered()",
        "SOURCE[0] = value; remembered.cache_clear()",
    ),
    "counter": (
        "import itertools\nCOUNT = itertools.count(0)",
        "next(COUNT)",
        "COUNT = itertools.count(value)",
    ),
    "partial": (
        "import functools\ndef same(n): return n\nPART = functools.partial(same, 0)",
        "PART()",
        "PART = functools.partial(same, value)",
    ),
    "array": ("import array\nARR = array.array('i', [0])", "ARR[0]", "ARR[0] = value"),
    "module": ("import stale_other", "stale_other.X", "stale_other.X = value"),
    "outside": (
        "import textwrap\n",
        "int(textwrap.dedent('0'))",
        "textwrap.dedent = (lambda x: value)",
    ),
}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("stale_other")
    other.X = 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stale_other", other)
    monkeypatch.setattr(textwrap, "dedent", textwrap.dedent)


def program(kinds: list[str]) -> dict[str, Any]:
    """Return the globals of a module with a checkpoint that reads these pieces of state."""
    names = "\n".join(KINDS[kind][0] for kind in kinds)
    reads = ", ".join(KINDS[kind][1] for kind in kinds)
    text = (
        f"from kitaru import checkpoint, flow\n{names}\n"
        f"@checkpoint\ndef read(x, scale=1): return [x, scale, {reads}]\n"
        "@flow\ndef main(x: int): return read(x)\n"
    )
    return loaded(text)


def loaded(text: str) -> dict[str, Any]:
    """Return the globals of a module that has this text and no file."""
    module = types.ModuleType("stale_program")
    sys.modules["stale_program"] = module
    exec(compile(text, "<generated>", "exec"), vars(module))
    return vars(module)


def apply(space: dict[str, Any], kind: str, value: int) -> None:
    """Set one piece of state, in the module itself."""
    # As a constant, so that a lambda's code is what differs.
    exec(KINDS[kind][2].replace("value", str(value)), space)


def check(kinds: list[str], changes: list[tuple[str, int]]) -> None:
    space = program(kinds)
    for kind, value in [(kinds[0], 0), *changes]:
        apply(space, kind, value)
        cached = space["main"].run(1).wait()
        fresh = space["main"].options(cache=False).run(1).wait()
        assert cached == fresh, (kinds, kind, value)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"context"}))
def test_each_kind_of_state_is_seen(kind: str, modules: None) -> None:
    space = program([kind])
    results = []
    for value in (0, 7, 8, 7):
        apply(space, kind, value)
        last = space["main"].run(1)
        results.append(last.wait()[2])
    assert [int(result) for result in results] == [0, 7, 8, 7]
    # The counter is used up by the call itself, so that no other call may have its result.
    assert bool(invocations(last)["read"].cached_from) is (kind != "counter")


def test_a_context_variable_counts_where_the_checkpoint_is_called() -> None:
    space = program(["context"])

    @flow
    def body(value: int) -> list[int]:
        space["CV"].set(value)
        return space["read"](1)

    runs = [body.run(value) for value in (1, 2, 1)]
    assert [run.wait()[2] for run in runs] == [1, 2, 1]
    assert [bool(invocations(run)["read"].cached_from) for run in runs] == [False, False, True]


READERS = {
    "open": "whole()",
    "path": "__import__('pathlib').Path('data.txt').read_text()",
    "environ": "os.environ['STALE_DATA']",
    "getenv": "os.getenv('STALE_DATA')",
    "helper": "helper()",
    "alias of open": "aliased()",
    "alias of environ": "variables['STALE_DATA']",
}


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_files_and_variables_are_declared_or_not_cached(
    reader: str, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = 'depends_on=["*.txt", "env:STALE_DATA"]' if declared else ""
    text = (
        "import os\nfrom kitaru import checkpoint, flow\n"
        "from builtins import open as opened\nfrom os import environ as variables\n"
        "def whole():\n    with open('data.txt') as file: return file.read()\n"
        "def helper(): return whole()\n"
        "def aliased():\n    with opened('data.txt') as file: return file.read()\n"
        f"@checkpoint({option})\ndef read(x): return {READERS[reader]}\n"
        "@flow\ndef main(): return read(1)\n"
    )
    space = loaded(text)
    results, reused = [], []
    for value in ("a", "b", "a"):
        Path("data.txt").write_text(value)
        monkeypatch.setenv("STALE_DATA", value)
        run = space["main"].run()
        results.append(run.wait())
        reused.append(bool(invocations(run)["read"].cached_from))
    assert results == ["a", "b", "a"]
    assert reused == [False, False, declared]


def never() -> None:
    raise AssertionError


@pytest.mark.parametrize("wrong", ["prompts/**", [1], [""], None])
def test_what_is_declared_is_a_list_of_texts(wrong: Any) -> None:
    with pytest.raises(UsageError, match="depends_on"):
        checkpoint(depends_on=wrong)(never)


def test_a_mock_and_a_client_are_never_taken_for_equal() -> None:
    for made in (mock.Mock(return_value=1), httpx.Client(base_url="http://a.test")):
        state = State()
        state.add(made, "m.made")
        assert state.opaque
    state = State(stateless=frozenset({"httpx"}))
    state.add(httpx.Client(), "m.made")
    assert not state.opaque


def test_another_test_finds_none_of_this_tests_results(monkeypatch: pytest.MonkeyPatch) -> None:
    space = program(["global"])
    space["main"].run(1).wait()
    again = space["main"].run(1)
    again.wait()
    assert invocations(again)["read"].cached_from
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_x.py::other (call)")
    other = space["main"].run(1)
    other.wait()
    assert not invocations(other)["read"].cached_from


class Stays:
    """A host whose process neither retries nor ends."""

    retries_here = False

    def pause(self, seconds: float) -> None:
        raise AssertionError("it retries nothing")


def test_a_rehearsal_neither_reads_nor_writes_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    space = program(["global"])
    space["main"].run(1).wait()
    call = space["main"].run(1)
    call.wait()
    assert invocations(call)["read"].cached_from
    store, journal = open_store(), Journal.open(open_store(), call.exec_id)
    rehearsal = replace(journal.execution, exec_id="rehearsal", mode="dry-run")
    execution = Execution(
        Journal.create(store, rehearsal),
        Stays(),  # type: ignore[arg-type]
        awaiting.result_of,
    )
    with entered(Scope(execution)):
        space["read"](1)
    assert not execution.journal.invocation("read").cached_from  # type: ignore[union-attr]
    assert not execution.journal.invocation("read").cache_key  # type: ignore[union-attr]
