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
from types import ModuleType

import pytest
from kitaru_compiler.frontend.scopes import Origin, Scopes

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
    assert Scopes(ast.parse(SOURCE)).origins(name) == expected


@pytest.mark.parametrize("name", FUNCTION)
def test_a_name_in_a_function(name: str) -> None:
    assert Scopes(ast.parse(SOURCE)).origins(name, "outer") == FUNCTION[name]


def test_what_is_no_function_of_the_module_has_the_modules_scope() -> None:
    scopes = Scopes(ast.parse(SOURCE))
    assert scopes.origins("local", "nested") == scopes.origins("local") == set()


@pytest.mark.parametrize(
    "module", [argparse, ast, dataclasses, inspect, logging, os, shutil, subprocess, tempfile]
)
def test_it_agrees_with_pythons_symbol_tables(module: ModuleType) -> None:
    source = inspect.getsource(module)
    tree = ast.parse(source)
    names = [stmt.name for stmt in tree.body if isinstance(stmt, ast.FunctionDef)]
    scopes, compared = Scopes(tree), 0
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


def lines(tree: ast.Module, function: str) -> set[int]:
    """Return where the function may start: symbol tables count from a decorator, or do not."""
    found = (s for s in tree.body if isinstance(s, ast.FunctionDef) and s.name == function)
    return {n.lineno for stmt in found for n in (stmt, *stmt.decorator_list)}
