"""Where a name comes from is what Python itself says of its scopes."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import logging
import os
import shutil
import subprocess
import symtable
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_compiler.frontend import reader
from kitaru_compiler.frontend.scopes import Origin, Scopes
from kitaru_compiler.frontend.source import Source, parse, read_text

from kitaru.wire.disk_cache import DiskCache

SOURCE = """\
import os
import os.path
import a.b.c as abc
from ..pkg import thing as other
from . import near
from x import *
if os:
    import json
else:
    json = None
with open("f") as handle, open("g") as (one, two): ...
for loop in (): ...
try: ...
except ValueError as error: ...
match loop:
    case {"k": captured, **rest}: ...
    case [first, *more] as whole: ...
values = [inner for inner in () if (walrus := inner)]
lazy = lambda hidden=(default := 1): hidden
def outer(parameter, *args, **kwargs):
    global declared, os
    from time import time
    import near
    local = 1
    def nested(): return local
    return [parameter for item in args]
class Top:
    attribute = 1
def twice(): ...
twice = 2
gone = 1
del gone
"""
MODULE = {
    "os": {Origin("import", "os"), Origin("module", "os")},
    "abc": {Origin("import", "a.b.c")},
    "other": {Origin("import", "..pkg.thing")},
    "near": {Origin("import", ".near")},
    "json": {Origin("import", "json"), Origin("module", "json")},
    "declared": {Origin("module", "declared")},
    "len": {Origin("builtin", "len")},
    "inner": set(),
    "hidden": set(),
    "attribute": set(),
    "nested": set(),
    "time": set(),
    "unknown": set(),
}
BOUND = (
    "handle one two loop error captured rest first more whole values walrus lazy default outer Top "
    "twice gone"
)
FUNCTION = {
    "parameter": {Origin("local", "parameter")},
    "args": {Origin("local", "args")},
    "time": {Origin("import", "time.time")},
    "near": {Origin("import", "near")},
    "nested": {Origin("local", "nested")},
    "item": set(),
    "os": MODULE["os"],
    "abc": MODULE["abc"],
    "declared": MODULE["declared"],
    "len": MODULE["len"],
}


@pytest.mark.parametrize("name", [*MODULE, *BOUND.split()])
def test_a_name_of_a_module(name: str) -> None:
    expected = MODULE.get(name, {Origin("module", name)})
    assert Scopes(parse(SOURCE, "m", "m.py")).origins(name) == expected


@pytest.mark.parametrize("name", FUNCTION)
def test_a_name_in_a_function(name: str) -> None:
    assert Scopes(parse(SOURCE, "m", "m.py")).origins(name, "outer") == FUNCTION[name]


def test_what_is_no_function_of_the_module_has_the_modules_scope() -> None:
    scopes = Scopes(parse(SOURCE, "m", "m.py"))
    assert scopes.origins("local", "nested") == scopes.origins("local") == set()


@pytest.mark.parametrize(
    "module", [argparse, ast, dataclasses, inspect, logging, os, shutil, subprocess, tempfile]
)
def test_it_agrees_with_pythons_symbol_tables(module: ModuleType) -> None:
    source = inspect.getsource(module)
    parsed = parse(source, "m", "m.py")
    tree = parsed.tree
    names = [stmt.name for stmt in tree.body if isinstance(stmt, ast.FunctionDef)]
    scopes, compared = Scopes(parsed), 0
    for table in symtable.symtable(source, "m", "exec").get_children():
        function = table.get_name()
        if names.count(function) != 1 or table.get_lineno() not in lines(tree, function):
            continue
        for symbol in table.get_symbols():
            compared += 1
            name = symbol.get_name()
            found = scopes.origins(name, function)
            if symbol.is_global():
                assert found == scopes.origins(name)
            else:
                # From Python 3.12 on, a comprehension's variables are listed as well.
                assert {origin.kind for origin in found} <= {"local", "import"}
                assert found or not (symbol.is_parameter() or symbol.is_imported())
    assert compared


def scopes_by_ast(source: Source) -> Scopes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitaru_compiler.frontend.analysis.is_readable", lambda _: False)
        return Scopes(source)


def functions_of(source: Source) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [stmt for stmt in source.tree.body if isinstance(stmt, kinds)]


def assert_the_same(source: Source) -> None:
    by_libcst, by_ast = Scopes(source), scopes_by_ast(source)
    names = {node.id for node in source.nodes.of(ast.Name)} | by_ast._module.keys()
    names |= {argument.arg for argument in source.nodes.of(ast.arg)}
    functions = functions_of(source)
    for function in ["", *(stmt.name for stmt in functions)]:
        for name in names:
            found = by_libcst.origins(name, function), by_ast.origins(name, function)
            assert found[0] == found[1], (name, function)
    # None of it was left to `ast`, but for tables of 50,000 characters in the module's own scope.
    if len(reader.skeleton(source.tree, source.lines)) <= reader.MAX_CHARACTERS:
        reader.read_module(source.tree, source.lines)
    for stmt in functions:
        reader.read_function(stmt, source.lines)


ROOT = Path(os.__file__).parent
LEFT_OUT = {"site-packages", "test", "tests", "bad_grammar.py"}
STDLIB = [p for p in sorted(ROOT.rglob("*.py")) if LEFT_OUT.isdisjoint(p.relative_to(ROOT).parts)]
COUNT = int(os.environ.get("KITARU_STDLIB_MODULES", "25"))


@pytest.mark.parametrize("path", STDLIB[:: max(1, len(STDLIB) // COUNT)], ids=str)
def test_libcst_and_ast_read_the_same_scopes(path: Path) -> None:
    try:
        source = parse(read_text(path, path.name), path.stem, path.name)
    except SourceError:
        return  # beyond the limits
    assert_the_same(source)


CONSTRUCTS = [
    "def f(a=(w := 1), /, b: int = 2, *c, d=lambda e=(v := 1): e, **g) -> int:\n    return 1\n",
    "def f(): return 1\n",
    "def f(\n    a,\n): return a\n",
    "@d(x := 1)\n@e\ndef f():\n    @g\n    def h(): ...\n    return h\n",
    "class A(B, metaclass=(M := type)):\n    x = 1\n    def f(self): y = 1\n",
    "def f():\n  (a, *b), c.d, e[i], [g] = 1\n  del h, j.k\n  l += 1\n  m: int\n  n: int = 1\n",
    "for a, (b, *c) in d: ...\nelse: e = 1\nasync def f():\n    async for g in h: ...\n",
    "with (a as b, c as (d, e)): ...\ntry: ...\nexcept E as f: ...\n",
    "try: ...\nexcept* E as f: ...\n",
    "match a:\n    case [b, *c] | {'d': [b, *c]}: ...\n    case {'e': f, **g} as h: ...\n"
    "    case K(i, j=k) if (l := 1): ...\n    case _: ...\n",
    "x = [a for a in b if (c := a) for d in e]\ny = {f: g for f, g in h}\nz = f'{(i := 1)}'\n",
    "def f():\n    global a, b\n    a = 1\n    def g():\n        global d\n    c = 2\n",
    "import a.b, c.d as e\nfrom . import f\nfrom ..g.h import i as j\nfrom .k import *\n",
    "import \uff41\uff42\uff43\n\uff58 = 1\n",
    'def f():\n    """text\n  less\n    """\n    a = 1\nif f: b = 1\n',
    "def f(): \\\n  a = 1; b = 2\n",
    "class A:\n\n    # comment\n    a = 1\n\n\nb = 2 # end",
    "def f():\n\ta = 1\n\tb = 2\nc = 1\n",
    "x = lambda: (y := 1)\ndef f(): yield (z := 1)\n",
    "if 1:\n    def f(): a = 1\n    class B: ...\nelse:\n    f = 2\n",
]


@pytest.mark.parametrize("text", CONSTRUCTS)
def test_libcst_and_ast_read_the_same_of_each_construct(text: str) -> None:
    source = parse(text, "pkg.m", "pkg/m.py")
    assert Scopes(source)._module == scopes_by_ast(source)._module
    assert_the_same(source)


LONG = {
    "operands": "x = " + " and ".join(["a"] * 20_000),
    "a dotted name": "import " + ".".join(["a"] * 20_000),
    "a dotted name to import from": "from " + ".".join(["a"] * 20_000) + " import b",
    "strings": "x = (" + " ".join(["'a'"] * 20_000) + ")",
    "comparisons": "x = " + " < ".join(["a"] * 20_000),
    "statements": "x = 1\n" * 10_000,
    "a function": "def f():\n" + "    x = 1\n" * 6_000,
}


@pytest.mark.parametrize("name", LONG)
def test_what_libcst_must_not_see_is_read_by_ast(name: str) -> None:
    """libcst ends the process on some of these texts, and takes long for the others."""
    scopes = Scopes(parse(LONG[name] + "\nlast = 1\n", "m", "m.py"))
    assert scopes.origins("last") == {Origin("module", "last")}
    if "x" in LONG[name]:
        kind: Literal["local", "module"] = "local" if name == "a function" else "module"
        assert scopes.origins("x", "f") == {Origin(kind, "x")}


def test_an_analysis_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path)
    first = Scopes(parse(SOURCE, "m", "m.py"), cache)
    expected = [first.origins(name, function) for name in MODULE for function in ("", "outer")]
    first.store()
    for name in ("read_module", "read_function"):
        monkeypatch.setattr(reader, name, None)
    monkeypatch.setattr("kitaru_compiler.frontend.scopes._bound_by_ast", None)
    # The same text under another name, in another folder.
    again = Scopes(parse(SOURCE, "other", "elsewhere/other.py"), cache)
    found = [again.origins(name, function) for name in MODULE for function in ("", "outer")]
    assert found == expected


def test_a_damaged_analysis_is_read_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    source = parse(SOURCE, "m", "m.py")
    Scopes(source, cache).store()
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes().replace(b"abc", b"xyz"))
    assert Scopes(source, cache).origins("abc") == MODULE["abc"]


def lines(tree: ast.Module, function: str) -> set[int]:
    """Return where the function may start: symbol tables count from a decorator, or do not."""
    found = (s for s in tree.body if isinstance(s, ast.FunctionDef) and s.name == function)
    return {n.lineno for stmt in found for n in (stmt, *stmt.decorator_list)}
