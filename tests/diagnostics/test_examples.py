"""Each rule's bad example is found by that rule, and by it alone; its good example is not."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.compile import ANY_TARGET
from kitaru_compiler.diagnostics import catalogue
from kitaru_compiler.diagnostics.model import SourceError

# What the examples call without defining it is a checkpoint, as a reader takes it, and so are these
# that they only name; the helpers are plain functions.
NAMED = ("search", "calc")
HELPERS = ("build_value", "client", "open_client", "read_all", "release")
IMPORTS = {
    "asyncio": "import asyncio", "datetime": "from datetime import datetime",
    "dataclass": "from dataclasses import dataclass", "kitaru": "import kitaru",
    "decimal": "import decimal", "itertools": "import itertools",
    "os": "import os", "Path": "from pathlib import Path", "time": "import time",
    "uuid": "import uuid", "flow": "from kitaru import flow",
    "checkpoint": "from kitaru import checkpoint", "openai": "import openai",
    "langchain": "import langchain.agents", "langgraph": "from kitaru.adapters import langgraph",
    "pydantic_ai": "import pydantic_ai.mcp",
    "durable": "from kitaru.adapters import pydantic_ai as durable",
}  # fmt: skip
FLOWS = ("other",)
SUBMITS = ("submit", "map")
# What an example leaves out for brevity, written out.
WRITTEN_OUT = {
    "1 + 1 + …": "1 + " * 100_000 + "1",
    '"sk-…"': '"sk-' + 'q7Xw2Zp9Lm4Vb8Nc3Kd6Rf1Ht5"',
    "    ...  # two thousand calls more\n": "    a = clean(a)\n" * 2001,
}
# No flow at all, a list of requirements or a command; a fault of the compiler; or found for one
# target alone.
ELSEWHERE = {
    "KIT104",
    "KIT105",
    "KIT325",
    "KIT501",
    "KIT502",
    "KIT509",
    "KIT511",
    "KIT606",
    "KIT607",
}
# Files as they are: what is wrong with them is that there is no flow to be read in them.
WHOLE = {"KIT101", "KIT102", "KIT103"}
CODES = [code for code in catalogue.codes() if code not in ELSEWHERE]


def program(code: str, example: str) -> str:
    """Return an example as a whole file: with imports, what it calls, and a flow around it."""
    for short, long in WRITTEN_OUT.items():
        example = example.replace(short, long)
    if code in WHOLE:
        return example
    lines = example.splitlines()
    if not any(line.strip().startswith("@flow") for line in lines):
        if any(line.startswith("@checkpoint") for line in lines):
            function = defined(example)
            arguments = ", ".join("a" for _ in function.args.args)
            example += f"\n@flow\ndef main(a=0):\n    return {function.name}({arguments})\n"
        else:
            example = in_flow(example)
    return head(example) + "\n" + example


def in_flow(body: str) -> str:
    """Return a flow with this body, whose inputs are the names that nothing else explains."""
    body = textwrap.indent(body, "    ")
    source = f"def main():\n{body}"
    known = {*called(source), *NAMED, *HELPERS, *FLOWS, *IMPORTS, *dir(builtins)}
    inputs = sorted(free_names(source) - known)
    return f"@flow\ndef main({', '.join(inputs)}):\n{body}"


def defined(example: str) -> ast.FunctionDef:
    """Return the last function that an example defines."""
    functions = (n for n in ast.parse(example).body if isinstance(n, ast.FunctionDef))
    return [*functions][-1]


def head(example: str) -> str:
    free = free_names(example)
    define = "async def" if "async def main" in example else "def"
    lines = [line for name, line in IMPORTS.items() if name in free | {"checkpoint", "flow"}]
    for name in sorted(free - {*IMPORTS, *dir(builtins)}):
        if name in HELPERS:
            lines.append(f"def {name}(x=None): return x")
        elif name in FLOWS:
            lines.append(f"@flow\ndef {name}(x=None): return x")
        else:
            lines.append(f"@checkpoint\n{define} {name}(x=None, y=None, z=None): return str(x)")
    return "\n".join(lines) + "\n"


def called(source: str) -> set[str]:
    """Return the names that a source calls, or submits."""
    functions = (n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    roots = (
        f.value if isinstance(f, ast.Attribute) and f.attr in SUBMITS else f for f in functions
    )
    return {root.id for root in roots if isinstance(root, ast.Name)}


def free_names(source: str) -> set[str]:
    """Return the names that a source reads and does not bind at its top level."""
    found: set[str] = set()

    def visit(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if symbol.is_global() or table.get_type() == "module":
                found.add(symbol.get_name())
        for child in table.get_children():
            visit(child)

    top = symtable.symtable(source, "example", "exec")
    visit(top)
    return found - {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}


def found(folder: Path, code: str, example: str) -> list[str]:
    path = folder / "flow.py"
    beside = r"^# (\w+\.\w+)(?: of (\d+) MB)? is beside the flow$"
    for name, size in re.findall(beside, example, re.MULTILINE):
        with (folder / name).open("wb") as file:
            file.truncate(int(size or 0) * 1024 * 1024)
    path.write_text(program(code, textwrap.dedent(example)), encoding="utf-8")
    return sorted({d.code for d in check(path)[0]})


@pytest.mark.parametrize("code", CODES)
def test_the_bad_example_is_found_by_this_rule_alone(code: str, tmp_path: Path) -> None:
    told = found(tmp_path, code, catalogue.load(code).bad)
    # What stays together is noted beside anything else that is wrong with it.
    beside = {"KIT311", "KIT312", "KIT320"} - {code}
    # No list of requirements is there, and an agent is another package.
    beside |= {"KIT502"} if code.startswith("KIT7") else set()
    assert [other for other in told if other not in beside] == [code]


@pytest.mark.parametrize("code", CODES)
def test_the_good_example_is_not_found(code: str, tmp_path: Path) -> None:
    rule = catalogue.load(code)
    told = found(tmp_path, code, rule.good)
    assert code not in told
    errors = {other for other in told if catalogue.load(other).severity == "error"}
    # Where the bad example is a file without a flow, so may the good one be.
    assert errors <= ({"KIT103"} if code in WHOLE else set())


def test_the_examples_of_a_command_and_of_requirements(tmp_path: Path) -> None:
    flow = "from kitaru import flow\nimport pandas\n@flow\ndef main(): return 1\n"
    path = tmp_path / "flows.py"
    path.write_text(flow)
    assert [d.code for d in check(path)[0]] == ["KIT502"]
    assert [d.code for d in check(path, "mian")[0]] == ["KIT104"]
    (tmp_path / "requirements.txt").write_text(catalogue.load("KIT501").bad)
    assert [d.code for d in check(path)[0]] == ["KIT501"]
    for bare in (catalogue.load("KIT502").good, catalogue.load("KIT509").bad):
        (tmp_path / "requirements.txt").write_text(bare)
        assert [d.code for d in check(path)[0]] == ["KIT509"]
    (tmp_path / "requirements.txt").write_text(catalogue.load("KIT509").good)
    assert check(path)[0] == ()
    path.write_text(flow + "@flow\ndef review(): return 1\n")
    with pytest.raises(SourceError) as caught:
        compile_flow(path)
    assert [d.code for d in caught.value.diagnostics] == ["KIT105"]


def test_the_examples_of_a_target_with_a_limit(tmp_path: Path) -> None:
    rule, few = catalogue.load("KIT607"), replace(ANY_TARGET, max_steps=200)
    found = {}
    for name, example in (("bad", rule.bad), ("good", rule.good)):
        path = tmp_path / "flow.py"
        path.write_text(program(rule.code, example))
        found[name] = {d.code for d in compile_flow(path, profile=few).diagnostics}
    assert found["bad"] == {"KIT607"} and "KIT607" not in found["good"]
