"""Examples in the docstrings of passes: a flow's body before the pass, and after it.

    python -m tests.compiler.pass_examples hoist < body.py

What a pass has made is shown as Python, with a comment for what only the compiler knows: `# step`
after a statement with one durable call, `# fan-out` and `# region` above their statements.
"""

from __future__ import annotations

import ast
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import dedent, indent
from unittest.mock import patch

import kitaru_compiler.passes as passes
from kitaru_compiler.compile import compile_flow
from kitaru_compiler.ir.nodes import (
    Code,
    Durable,
    Exit,
    Fan,
    FlowIR,
    If,
    Inline,
    Node,
    Region,
    Return,
    Scope,
)

PRELUDE = """\
from kitaru import checkpoint, flow

@checkpoint
def research(topic): return topic
@checkpoint
def draft(notes): return notes
@checkpoint
def check(text): return True
@checkpoint
def publish(text): return text

STEPS = {"research": research, "draft": draft}

def shorten(text): return text[:10]

def review(text):
    if check(text):
        return shorten(text)
    return draft(text)

"""
NAMES = [step.__name__ for step in passes.PASSES if step.__name__ != "verify"] + ["inline"]
_EXAMPLE = re.compile(r"^Before::\n\n(.*?)^After::\n\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


class _Stop(BaseException):
    def __init__(self, ir: FlowIR) -> None:
        self.ir = ir


def examples(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the two texts of each example in a docstring."""
    for before, after in _EXAMPLE.findall(docstring):
        yield dedent(before).strip(), dedent(after).strip()


def after(name: str, body: str) -> str:
    """Return what the passes up to the one called `name` make of a flow's body."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        is_async = re.search(r"\bawait |\basync with ", body)
        prelude = PRELUDE
        if is_async:
            asynchronous = PRELUDE.replace("@checkpoint\ndef", "@checkpoint\nasync def")
            prelude = f"import asyncio\n{asynchronous}"
        define = "async def" if is_async else "def"
        path.write_text(f"{prelude}@flow\n{define} main(topic, items):\n{indent(body, '    ')}\n")
        try:
            with _stopping(name):
                compile_flow(path)
        except _Stop as stop:
            return shown(stop.ir)
    raise AssertionError(f"{name} did not run")


def _stopping(name: str) -> AbstractContextManager[object]:
    if name == "inline":
        from kitaru_compiler import compile as module

        real = module.inline

        def inline(*arguments: object) -> FlowIR:
            raise _Stop(real(*arguments))  # type: ignore[arg-type]

        return patch.object(module, "inline", inline)
    number = [step.__name__ for step in passes.PASSES].index(name)
    last = passes.PASSES[number]

    def stop(ir: FlowIR) -> FlowIR:
        raise _Stop(last(ir))

    return patch.object(passes, "PASSES", (*passes.PASSES[:number], stop))


def shown(ir: FlowIR) -> str:
    """Return a flow between two passes as text."""
    if ir.whole:
        return f"# the whole flow is one region: {ir.whole.reason}"
    return "\n".join(line for node in ir.body for line in _lines(node))


def _lines(node: Node) -> list[str]:
    match node:
        case Code(stmt) | Return(stmt):
            return ast.unparse(stmt).splitlines()
        case Durable(stmt):
            return [f"{ast.unparse(stmt)}  # step"]
        case Fan(stmts):
            return ["# fan-out", *(line for s in stmts for line in ast.unparse(s).splitlines())]
        case Region(stmts, reason=reason, definitions=first):
            texts = [line for s in (*first, *stmts) for line in ast.unparse(s).splitlines()]
            return [f"# region: {reason}", *texts]
        case If(test, body, orelse):
            lines = [f"if {ast.unparse(test)}:  # branch", *_indented(body)]
            return [*lines, "else:", *_indented(orelse)] if orelse else lines
        case Scope(label, body):
            return [f"# scope {label}", *_indented(body)]
        case Exit(label):
            return [f"# leave scope {label}"]
        case Inline(activation=activation, arguments=arguments, body=body, target=target):
            given = ", ".join(f"{name}={ast.unparse(value)}" for name, value in arguments)
            return [f"# {target or '_'} = {activation.ir.name}({given})", *_indented(body)]


def _indented(nodes: list[Node]) -> list[str]:
    lines = [f"    {line}" for node in nodes for line in _lines(node)]
    return lines or ["    pass"]


if __name__ == "__main__":
    sys.stdout.write(after(sys.argv[1], sys.stdin.read()) + "\n")
