"""Each thing that is wrong with a flow is said with its code, where it stands, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.diagnostics.model import SourceError

KITARU = "import kitaru\nfrom kitaru import checkpoint, flow\n"
A = "@checkpoint\ndef a(x=0): return x\n"
MAIN = "@flow\ndef main(x=1):\n"

# What stands in program.py, and code, line and column of everything that is found in it.
FOUND = {
    "no Python": ("def main(:\n", [("KIT101", 1, 10)]),
    "too large": ("#" * (1024 * 1024 + 1), [("KIT102", 1, 1)]),
    "no flow": ("def main(): ...\n", [("KIT103", 1, 1)]),
    "a flow that yields": (f"{KITARU}{MAIN}    y = 1\n    yield y\n", [("KIT106", 6, 5)]),
    "a flow in a function": (
        f"{KITARU}def make():\n    @flow\n    def main(): ...\n",
        [("KIT107", 5, 5)],
    ),
    "a flow under another decorator": (
        f"{KITARU}import functools\n@functools.cache\n@flow\ndef main(): ...\n",
        [("KIT107", 6, 1)],
    ),
    "a wait in a checkpoint": (
        f'{KITARU}@checkpoint\ndef a():\n    return [kitaru.wait(name="ok")]\n{MAIN}    a()\n',
        [("KIT401", 5, 13)],
    ),
    "memory in a checkpoint": (
        f"{KITARU}@checkpoint\ndef a():\n    kitaru.memory.get('k')\n{MAIN}    a()\n",
        [("KIT401", 5, 5)],
    ),
    "a checkpoint in a checkpoint": (
        f"{KITARU}{A}@checkpoint\ndef b(x):\n    return 1 + a(x)\n{MAIN}    b(1)\n",
        [("KIT402", 7, 16)],
    ),
    "a flow in a flow": (
        f"{KITARU}@flow\ndef other(x): ...\n{MAIN}    return other(x)\n",
        [],
    ),
    "a flow in a checkpoint": (
        f"{KITARU}@flow\ndef other(x): ...\n@checkpoint\ndef a():\n    other(1)\n{MAIN}    a()\n",
        [("KIT403", 7, 5)],
    ),
    "any number of inputs": (
        f"{KITARU}@flow\ndef main(x, *rest, **more): ...\n",
        [("KIT601", 4, 14), ("KIT601", 4, 22)],
    ),
    "a reserved input": (
        f"{KITARU}@flow\ndef main(x, *, kitaru_store): ...\n",
        [("KIT602", 4, 16)],
    ),
    "an input that is not ASCII": (
        f"{KITARU}@flow\ndef main(x, größe_in=1, *, ключ=2, x١=3): ...\n",
        [("KIT608", 4, 13), ("KIT608", 4, 28), ("KIT608", 4, 36)],
    ),
    "everything at once": (
        f"{KITARU}{A}@checkpoint\ndef b():\n    kitaru.wait()\n    a()\n"
        "@flow\ndef main(kitaru_x, *rest):\n    b()\n",
        [("KIT401", 7, 5), ("KIT402", 8, 5), ("KIT602", 10, 10), ("KIT601", 10, 21)],
    ),
    "an import that nothing provides": (
        f"{KITARU}from pandas.core import x, y\n{A}{MAIN}    a()\n",
        [("KIT502", 3, 1)],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_code_and_place(name: str, tmp_path: Path) -> None:
    source, expected = FOUND[name]
    path = tmp_path / "program.py"
    path.write_text(source)
    flow = "main" if "def main" in source and "other" in source else None
    found, sources, *_ = check(path, flow)
    assert [(d.code, d.span.line, d.span.column) for d in found] == expected
    assert all(d.span.file == "program.py" for d in found)
    assert "program.py" in sources
    errors = [d for d in found if d.severity == "error"]
    if errors:
        with pytest.raises(SourceError) as caught:
            compile_flow(path, flow)
        assert [d for d in caught.value.diagnostics if d.severity == "error"] == errors
        assert errors[0].code in str(caught.value)


def test_an_async_flow_is_checked_and_compiled(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"{KITARU}@flow\nasync def main():\n    kitaru.wait()\n")
    assert [(d.code, d.span.line, d.span.column) for d in check(path)[0]] == [("KIT415", 5, 5)]
    assert [d.code for d in compile_flow(path).diagnostics] == ["KIT415"]


@pytest.mark.parametrize(
    "makes",
    [
        "asyncio.create_task(ca())",
        "await asyncio.gather(ca(), ca())",
        "await asyncio.to_thread(print)",
        "g = asyncio.TaskGroup()",
    ],
)
def test_a_wait_that_blocks_tasks_is_an_error(makes: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    head = f"import asyncio\n{KITARU}@checkpoint\nasync def ca(): ...\n"
    path.write_text(f"{head}@flow\nasync def main():\n    t = {makes}\n    kitaru.wait()\n")
    with pytest.raises(SourceError) as caught:
        compile_flow(path)
    assert [d.code for d in caught.value.diagnostics] == ["KIT416"]
    assert "await kitaru.aio.wait(…)" in caught.value.diagnostics[0].help


def test_several_flows_and_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"{KITARU}{MAIN}    ...\n@flow\ndef other(): ...\n")
    with pytest.raises(SourceError) as several:
        compile_flow(path)
    found = several.value.diagnostics[0]
    assert (found.code, found.span.line) == ("KIT105", 4)
    assert [(span.line, label) for span, label in found.related] == [(7, "other")]
    with pytest.raises(SourceError) as unknown:
        compile_flow(path, "mian")
    assert unknown.value.diagnostics[0].code == "KIT104"
    assert "main, other" in unknown.value.diagnostics[0].help
    assert check(path)[0] == ()


def test_requirements_that_are_not_pinned(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"{KITARU}import pandas\n{A}{MAIN}    a()\n")
    (tmp_path / "requirements.txt").write_text("# data\npandas>=2  # not ==\nrich==1.0 --hash=x\n")
    found, *_ = check(tmp_path / "program.py")
    place = [(d.code, d.span.file, d.span.line, d.span.column) for d in found]
    assert place == [("KIT501", "requirements.txt", 2, 1), ("KIT509", "requirements.txt", 3, 1)]
    assert "`pandas>=2`" in found[0].message


def test_a_misuse_in_another_file_is_shown_there(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(f"{KITARU}{A}@checkpoint\ndef b():\n    a()\n")
    (tmp_path / "program.py").write_text(f"{KITARU}import beside\n{MAIN}    beside.b()\n")
    found, sources, *_ = check(tmp_path / "program.py")
    assert [(d.code, d.span.file, d.span.line) for d in found] == [("KIT402", "beside.py", 7)]
    assert set(sources) == {"beside.py", "program.py"}


def test_a_text_that_is_too_long_for_the_name_of_a_file_names_none(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"{KITARU}TEXT = open('{'a' * 300}')\n{MAIN}    return x\n")
    assert [d.code for d in check(path)[0] if d.severity == "error"] == []
