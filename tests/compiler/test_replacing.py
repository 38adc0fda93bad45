"""Names that code replaces by whatever means are taken for certain nowhere, and run right."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from kitaru_compiler.compile import _open
from kitaru_compiler.frontend.methods import Methods

from tests.differential.harness import compile_text, run_cut, run_plain

PRELUDE = """
import importlib, operator, sys
import functools
from unittest import mock
from unittest.mock import patch
from kitaru import checkpoint, flow

@checkpoint
def ca(x): return x

@checkpoint
def cb(x): return [x]

ROUNDS = 2
def helper(x, by=1): return ca(x * by)
def other(x, by=2): return cb(x * 10 * by)

class Agent:
    def ask(self, x): return ca(x)
    def also(self, x): return self.ask(x)

class Louder:
    def ask(self, x): return cb(-x)
    def also(self, x): return cb([x])
"""
FLOW = """
@flow
def main(n=3):
    agent = Agent()
    change(agent, n)
    out = [helper(n), agent.ask(n), agent.also(n)]
    for i in range(ROUNDS):
        out.append(ca(i))
    return out, helper(2), ca(ROUNDS)
"""
# Each replaces something, a constant, a helper or a method, in a way that no assignment shows.
CHANGES = {
    "globals, updated": "globals().update(ROUNDS=n, helper=other)",
    "globals, updated from a display": "globals().update({'ROUNDS': n, 'helper': other})",
    "globals, updated from a value": "globals().update(dict(ROUNDS=n, helper=other))",
    "globals, updated by dict": "dict.update(globals(), ROUNDS=n)",
    "globals, an item": "globals()['helper'] = other",
    "globals, an item of a name made up": "key = 'ROU' + 'NDS'; globals()[key] = n",
    "globals, augmented": "globals()['ROUNDS'] += 1",
    "globals, under another name": "space = globals(); space['helper'] = other",
    "globals, called by another name": "space = globals; space()['ROUNDS'] = n",
    "globals, popped and set": "globals().pop('ROUNDS'); globals().setdefault('ROUNDS', n)",
    "globals, a bound method": "globals().__setitem__('ROUNDS', n)",
    "globals, an operator": "operator.setitem(globals(), 'ROUNDS', n)",
    "globals, joined in place": "space = globals(); space |= {'ROUNDS': n}",
    "globals, for a target": "for globals()['ROUNDS'] in (1, n): pass",
    "vars of the module": "vars(sys.modules[__name__])['helper'] = other",
    "the dict of the module": "sys.modules[__name__].__dict__['ROUNDS'] = n",
    "the dict of the module, asked for": (
        "getattr(sys.modules[__name__], '__dict__')['ROUNDS'] = n"
    ),
    "an attribute of the module": "sys.modules[__name__].helper = other",
    "an attribute of the module, by a variable": "me = sys.modules[__name__]; me.ROUNDS = n",
    "an attribute of the module, imported": "importlib.import_module(__name__).ROUNDS = n",
    "setattr on the module": "setattr(sys.modules[__name__], 'helper', other)",
    "setattr of a name made up": "setattr(sys.modules[__name__], 'help' + 'er', other)",
    "setattr, handed on": "functools.partial(setattr, sys.modules[__name__])('ROUNDS', n)",
    "setattr of many": (
        "me = sys.modules[__name__]\n    for k, v in dict(ROUNDS=n).items(): setattr(me, k, v)"
    ),
    "setattr, unpacked": "setattr(*(sys.modules[__name__], 'ROUNDS', n))",
    "the globals of a function": "other.__globals__['ROUNDS'] = n",
    "the globals of a frame": "sys._getframe().f_globals['ROUNDS'] = n",
    "exec": "exec('global ROUNDS; ROUNDS = 5')",
    "exec in globals": "exec('ROUNDS = 4', globals())",
    "the defaults of a helper": "helper.__defaults__ = (7,)",
    "an object, by object": "object.__setattr__(agent, 'ask', lambda x: -x)",
    "an object, by its own method": "agent.__setattr__('ask', lambda x: -x)",
    "an object, by a name made up": "setattr(agent, 'as' + 'k', lambda x: -x)",
    "an object's dict": "agent.__dict__['ask'] = lambda x: -x",
    "an object's vars": "vars(agent).update(ask=lambda x: -x)",
    "an object's class": "agent.__class__ = Louder",
    "a class, by type": "type.__setattr__(Agent, 'ask', Louder.ask)",
    "a class, by setattr": "setattr(type(agent), 'a' + 'sk', Louder.ask)",
    "a class, by its attribute": "type(agent).ask = Louder.ask",
    "a class, deleted and set": "kept = Louder.ask; del Agent.ask; setattr(Agent, 'ask', kept)",
    "the name of a class": "globals()['Agent'] = Louder",
    "a patch of an object": "mock.patch.object(Agent, 'ask', lambda self, x: -x).start()",
    "a patch of a name made up": "patch.object(Agent, 'as' + 'k', Louder.ask).start()",
    "a patch of a name": "patch(__name__ + '.ROUNDS', n).start()",
    "a patch of a name, written out": "mock.patch('program.helper', other).start()",
    "a patch of several": "patch.multiple(Agent, ask=Louder.ask).start()",
    "a patch of a dict": "mock.patch.dict(globals(), ROUNDS=n).start()",
    "a builtin": "globals()['range'] = lambda n: [n, n, n]",
    "a builtin, by its attribute": "sys.modules[__name__].range = lambda n: [n, n, n]",
    "a builtin, by a name made up": "globals()['ran' + 'ge'] = lambda n: [n, n, n]",
}
# These run while the module is imported.
AT_IMPORT = {
    "a class": "type.__setattr__(Agent, 'ask', lambda self, x: ca(-x))",
    "a loop over names": "for name in ('helper',): globals()[name] = other",
    "locals of the module": "locals()['ROUNDS'] = 3",
    "vars of the module": "vars()['helper'] = other",
    "code": "helper.__code__ = other.__code__",
    "code of a method": "Agent.ask.__code__ = Louder.ask.__code__",
    "defaults": "helper.__defaults__ = (100,)",
    "exec": "exec('ROUNDS = 3')",
    "a class that sets its own": (
        "class Base:\n    def __init_subclass__(cls): setattr(cls, 'a' + 'sk', Louder.ask)\n"
        "class Agent(Base):\n    def ask(self, x): return ca(x)\n    also = ask"
    ),
    "a decorator of classes": (
        "def loud(cls):\n    setattr(cls, 'ask', Louder.ask)\n    return cls\nloud(Agent)"
    ),
}


def agree(source: str) -> None:
    compilation, path = compile_text(source)
    plain = run_plain(compilation, path, {"n": 3})
    assert "Error" not in plain.result, plain.result
    for everywhere in (False, True):
        cut = run_cut(compilation, path, {"n": 3}, everywhere=everywhere)
        assert cut.same() == plain.same(), compilation.steps_py


@pytest.mark.parametrize("how", CHANGES)
def test_a_flow_runs_what_replaced_its_names(how: str) -> None:
    agree(f"{PRELUDE}\ndef change(agent, n):\n    {CHANGES[how]}\n{FLOW}")


@pytest.mark.parametrize("how", CHANGES)
def test_also_where_a_cut_follows(how: str) -> None:
    change = f"def change(agent, n):\n    {CHANGES[how]}\n"
    agree(f"{PRELUDE}\n{change}{FLOW.replace('(agent, n)', '(agent, n); ca(n)')}")


@pytest.mark.parametrize("how", AT_IMPORT)
def test_a_module_replaces_its_own_names(how: str) -> None:
    agree(f"{PRELUDE}\n{AT_IMPORT[how]}\n{FLOW.replace('    change(agent, n)', '    pass')}")


def found(tmp_path: Path, code: str) -> tuple[bool, bool, set[str]]:
    path = tmp_path / "program.py"
    path.write_text(code)
    _, names, source = _open(path, "")
    replacing = Methods(names, source.module).replacing
    return bool(replacing.anything), bool(replacing.methods), set(replacing.named)


# What only reads, or sets the attributes of an object of its own.
READS = [
    "x = globals()['a']", "x = globals().get(n)", "x = {**globals()}", "f(**globals())",
    "x = n in globals()", "x = len(vars(m))", "for k in globals(): pass", "x = dict(m.__dict__)",
    "x = json.dumps(m.__dict__)", "json.dumps(obj=m.__dict__)", "x = sorted(vars(m).items())",
    "x = eval(n, globals())", "x = eval(n)", "exec(n, {})", "exec(n, space)", "x = locals()",
    "x = f'{vars(m)}'", "x = m.__class__", "x = getattr(m, n)", "x = getattr(m, 'setattr_')",
    "x = type(m).__dict__['a']", "space.update(vars(m))", "client.patch(n)", "requests.patch(n)",
    "x = m.__code__", "x = m.__defaults__", "x = sys.modules[n]", "x = sys.modules.get(n)",
    "x = mock.patch", "x = [v for v in vars(m)]", "x = vars(m) | {}",
]  # fmt: skip


@pytest.mark.parametrize("code", READS)
def test_reading_replaces_nothing(code: str, tmp_path: Path) -> None:
    head = "import json, sys, requests\nfrom unittest import mock\n"
    assert found(tmp_path, f"{head}def f(m, n, space, client):\n    {code}\n") == (
        False,
        False,
        set(),
    )


OWN = [
    "setattr(self, n, 1)", "self.__dict__.update(n)", "vars(self)[n] = 1", "delattr(self, n)",
    "object.__setattr__(self, n, 1)", "super().__setattr__(n, 1)", "self.__class__ = n",
    "made = C(); setattr(made, n, 1)", "made = C()\n        for k in n: setattr(made, k, 1)",
]  # fmt: skip


@pytest.mark.parametrize("code", OWN)
def test_an_object_of_its_own_has_methods_only(code: str, tmp_path: Path) -> None:
    assert found(tmp_path, f"class C:\n    def f(self, n):\n        {code}\n") == (
        False,
        True,
        set(),
    )


def test_own_is_neither_the_first_of_a_static_method_nor_a_name_bound_again(tmp_path: Path) -> None:
    static = "class C:\n    @staticmethod\n    def f(self, n): setattr(self, n, 1)\n"
    rebound = "class C:\n    def f(self, n):\n        self = n\n        setattr(self, n, 1)\n"
    twice = "class C: pass\ndef f(n):\n    c = C()\n    c = n\n    setattr(c, n, 1)\n"
    for code in (static, rebound, twice):
        ast.parse(code)
        assert found(tmp_path, code)[0]


def test_attributes_written_out_make_their_names_doubtful_alone(tmp_path: Path) -> None:
    code = "def f(m, n):\n    m.one = n\n    setattr(m, 'two', n)\n    globals()['three'] = n\n"
    assert found(tmp_path, code) == (False, False, {"one", "two", "three"})


def test_the_note_says_which_code_may_replace_a_helper() -> None:
    change = "def change(agent, n):\n    globals().update(n)\n"
    compilation, _ = compile_text(f"{PRELUDE}\n{change}{FLOW}")
    told = [d.message for d in compilation.diagnostics]
    line = PRELUDE.count("\n") + 3
    assert any(f"`helper` may be replaced by `globals()` in line {line} of" in m for m in told), (
        told
    )
