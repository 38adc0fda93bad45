"""What a step prints when the user's code fails is what plain Python prints of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow

from kitaru.runtime.steps import blocks
from kitaru.runtime.steps.frames import handed_on
from kitaru.wire.plan import Granularity
from tests.differential.harness import World

MODULE = """
from kitaru import checkpoint, flow

@checkpoint
def a(x=0): return x

def fails(x): raise KeyError(x)

@flow
def main(x=0, q=None):
"""

BODIES = {
    "an expression over several lines": """
    y = a(x)
    z = [
        y,
        (a(2) +
            y / (x - x)),
    ]
    return z
""",
    "a statement after a cut": """
    y = a(1)
    z = a(2)
    return y.nope + z
""",
    "a call in a call": "    return a(fails(a(1)))\n",
    "a helper's own lines": "    a(1)\n    return fails(\n        a(2))\n",
    "a test": "    y = a(1)\n    if y.nope and a(2): return a(3)\n",
    "an unrolled loop": "    for i in (2, 1, 0):\n        y = a(i)\n        q = 1 / y\n",
    "an augmented item": "    q = [a(1)]\n    q[0] += a('text')\n",
    "an index": "    q = a([])\n    return q[a(3)]\n",
    "a ternary": "    y = a(1) if q else (\n        a(2) / x)\n",
    "a nested function": "    y = a(1)\n    def f():\n        return y / x\n    return f()\n",
    "a lambda in a comprehension": "    y = a(1)\n    return [(lambda v: v / x)(v) for v in [y]]\n",
    "a match": "    match a(1):\n        case y if y / x: return a(2)\n",
    "a try": "    try:\n        a(1 / x)\n    finally:\n        q = 1\n    return q\n",
    "a cause": "    try: fails(a(1))\n    except KeyError as e: raise ValueError from e\n",
    "a raise": "    raise ValueError(\n        a('why'))\n",
    "an unbound name": "    if x: y = 1\n    a(1)\n    return y + a(2)\n",
    "an f-string": "    y = a(1)\n    return f'{y} {a(2)} {y.nope}'\n",
    "wide characters": "    größe = a('数')\n    return größe + a('数') + größe.nope\n",
    "several statements on a line": "    y = a(0); z = a(1) / y; return z\n",
    "tabs": "\ty = a(0)\n\treturn (a(1) +\n\t\t1 / y)\n",
    "a keyword argument": "    return a(\n        x=a(1) / x,\n    )\n",
}


@pytest.mark.parametrize("granularity", ["checkpoint", "single"])
@pytest.mark.parametrize("name", BODIES)
def test_the_same_lines_and_carets(name: str, granularity: Granularity, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    source = MODULE + BODIES[name]
    path.write_text(source.replace("    ", "\t") if "\t" in BODIES[name] else source)
    compilation = compile_flow(path, granularity=granularity)

    plain = World(path, []).module()
    expected = shown(lambda: plain.main(), path)

    module = World(path, []).module()
    functions = blocks.load(
        compilation.plan, blocks.located(compilation.plan, compilation.steps_py), module
    )

    def run() -> Any:
        plan = compilation.plan
        name = plan.blocks[0].name
        variables: Any = {"x": 0, "q": None}
        while True:
            following, returned = functions[name](variables)
            if following is None:
                return
            ends, starts = plan.block(name), plan.block(following)
            variables = handed_on(ends, starts, variables, returned)
            name = following

    assert len(expected) > 0
    assert shown(run, path) == expected


def shown(run: Callable[[], Any], path: Path) -> list[str]:
    """Return the traceback's text: frames of the user's file, and what was raised."""
    with pytest.raises(Exception) as caught:
        run()
    whole = traceback.TracebackException.from_exception(caught.value)
    found: list[str] = []
    one: traceback.TracebackException | None = whole
    while one is not None:
        one.stack = traceback.StackSummary.from_list(
            [frame for frame in one.stack if frame.filename == str(path)]
        )
        one = one.__cause__ or one.__context__
    found += whole.format()
    return found
