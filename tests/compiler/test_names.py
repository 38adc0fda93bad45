"""A checkpoint is one under whatever name it is called, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import compile_flow

from kitaru.wire.plan import Block


def compiled(folder: Path, **files: str) -> list[Block]:
    """Return the blocks of `program.py`; other files stand beside it, `__` for a folder."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
    return [*compile_flow(folder / "program.py").plan.blocks]


def calls(blocks: list[Block]) -> list[tuple[str, ...]]:
    return [block.calls for block in blocks if block.calls]


MADE = {
    "import kitaru": "import kitaru\n@kitaru.checkpoint\ndef a(): ...\nflow = kitaru.flow\n",
    "import kitaru as k": "import kitaru as k\n@k.checkpoint\ndef a(): ...\nflow = k.flow\n",
    "from kitaru import as": (
        "from kitaru import flow as f, checkpoint as c\n@c\ndef a(): ...\nflow = f\n"
    ),
    "from kitaru import *": "from kitaru import *\nimport kitaru\n@kitaru.checkpoint\n"
    "def a(): ...\nflow = kitaru.flow\n",
    "parentheses": "from kitaru import flow, checkpoint\n@checkpoint()\ndef a(): ...\n",
    "options": "from kitaru import flow, checkpoint\n@checkpoint(retries=3)\ndef a(): ...\n",
    "an async checkpoint": "from kitaru import flow, checkpoint\n@checkpoint\nasync def a(): ...\n",
    "a call": "from kitaru import flow, checkpoint\ndef plain(): ...\na = checkpoint(plain)\n",
    "a call with options": (
        "from kitaru import flow, checkpoint\ndef p(): ...\na = checkpoint(retries=2)(p)\n"
    ),
    "an alias of an alias": (
        "from kitaru import flow, checkpoint\n@checkpoint\ndef z(): ...\ny = z\na = y\n"
    ),
}


@pytest.mark.parametrize("how", MADE)
def test_every_way_to_make_one(how: str, tmp_path: Path) -> None:
    source = MADE[how] + "@flow\ndef main():\n    a()\n    return a()\n"
    kinds = [block.kind for block in compiled(tmp_path, program=source)]
    assert kinds == ["entry", "checkpoint", "checkpoint"]


SHARED = "from kitaru import checkpoint\n@checkpoint\ndef a(): ...\nclass C: ...\n"
IMPORTED = {
    "from a module": ("from shared import a\n", "a()"),
    "under another name": ("from shared import a as b\n", "b()"),
    "through the module": ("import shared\n", "shared.a()"),
    "through an alias of the module": ("import shared as s\n", "s.a()"),
    "re-exported": ("from front import a\n", "a()"),
    "re-exported under another name": ("import front\n", "front.renamed()"),
    "of a package": ("from pack.inner import a\n", "a()"),
    "of a package, dotted": ("import pack.inner\n", "pack.inner.a()"),
    "of a package, relative inside": ("from pack.outer import a\n", "a()"),
    "imported in the flow": ("", "a()"),
}


@pytest.mark.parametrize("how", IMPORTED)
def test_every_way_to_import_one(how: str, tmp_path: Path) -> None:
    head, call = IMPORTED[how]
    inside = "from shared import a\n    " if how == "imported in the flow" else ""
    blocks = compiled(
        tmp_path,
        shared=SHARED,
        front="from shared import a\nrenamed = a\n",
        pack__inner=SHARED,
        pack__outer="from .inner import a\n",
        program=f"from kitaru import flow\n{head}@flow\ndef main():\n    {inside}return {call}\n",
    )
    if how == "imported in the flow":
        assert len(blocks) <= 2  # a local name: found at run time, if not here
    else:
        assert calls(blocks) == [("a",)]


NOT_ONE = {
    "rebound in the module": "a = len\n",
    "bound on one path": "if a:\n    def a(): ...\n",
    "hidden by a parameter": "",
    "wrapped": "import functools\n@functools.cache\n@checkpoint\ndef a(): ...\n",
}


@pytest.mark.parametrize("how", NOT_ONE)
def test_what_is_ambiguous_is_left_to_run_time(how: str, tmp_path: Path) -> None:
    parameter = "a" if how.startswith("hidden") else "q=()"
    blocks = compiled(
        tmp_path,
        program=SHARED.replace("import checkpoint", "import checkpoint, flow")
        + NOT_ONE[how]
        + f"@flow\ndef main({parameter}):\n    return a()\n",
    )
    assert calls(blocks) == []


def test_a_name_decides_what_is_recorded_and_how_blocks_are_called(tmp_path: Path) -> None:
    source = """
from kitaru import checkpoint, flow, wait
@checkpoint(name="Write-the_Draft")
def a(): ...
@flow
def main():
    a()
    a()
    wait(name="Ok-1")
    wait(name=input())
"""
    blocks = compiled(tmp_path, program=source)
    assert [block.name for block in blocks] == [
        "start",
        "write_the_draft",
        "write_the_draft_2",
        "ok_1",
        "wait",
    ]
