"""Whatever stands in a file, compiling it ends: with a plan, or with an error that says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.diagnostics.model import Diagnostic, SourceError
from kitaru_compiler.diagnostics.render import render

from kitaru.errors import UsageError
from tests.compiler.helpers import PRELUDE

FLOW = PRELUDE + "@flow\ndef main(x=1, q=()):\n"
FIRST = len(FLOW.splitlines()) + 1


def refused(path: Path) -> Diagnostic:
    """Return the one error that compiling and checking the file both end with."""
    with pytest.raises(SourceError) as caught:
        compile_flow(path)
    found, sources, *_ = check(path)
    assert found == caught.value.diagnostics
    assert f"{found[0].span.file}:{found[0].span.line}" in render(found, sources)
    return found[0]


def written(folder: Path, source: str | bytes) -> Path:
    path = folder / "program.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return path


DEEP_IFS = "".join("    " * n + "if x:\n" for n in range(1, 300)) + "    " * 300 + "a(1)\n"
LONG_ELIF = "    if x: a(1)\n" + "".join(f"    elif x == {n}: a({n})\n" for n in range(2000))

REFUSED = {
    "10 MB": ("KIT102", "x = 1\n" * (10 * 1024 * 1024 // 6), (1, 1)),
    "100,000 parentheses": ("KIT101", f"{FLOW}    return {'(' * 100_000}", (FIRST, 212)),
    "100,000 brackets": ("KIT101", f"{FLOW}    return {'[' * 100_000}", (FIRST, 212)),
    "100,000 signs": ("KIT102", f"{FLOW}    return {'-' * 100_000}1", (1, 1)),
    "100,000 operands": ("KIT102", f"{FLOW}    return {'1+' * 100_000}1", (1, 1)),
    "1,000 attributes": ("KIT102", f"{FLOW}    return x{'.y' * 1000}", (FIRST, 12)),
    "300 levels of if": ("KIT101", FLOW + DEEP_IFS, (FIRST + 99, 1)),
    "2,000 elifs": ("KIT102", FLOW + LONG_ELIF, (FIRST + 195, 20)),
    "100,000 balanced parentheses": (
        "KIT101",
        f"{FLOW}    return {'(' * 100_000}a(1){')' * 100_000}\n",
        (FIRST, 212),
    ),
    "a number of 60,000 digits": ("KIT102", f"{FLOW}    return a(0x{'f' * 50_000})\n", (FIRST, 14)),
    "a codec that is no encoding": ("KIT101", b"# coding: undefined\nx = 1\n", (1, 1)),
    "a codec that gives up": ("KIT101", b"# coding: punycode\nx = 1\n", (1, 1)),
    "two marks": ("KIT101", b"\xef\xbb\xbf\xef\xbb\xbfx = 1\n", (1, 1)),
    "a null byte": ("KIT101", "x = 1\ny = '\0'\n", (2, 1)),
    "an unknown encoding": ("KIT101", b"# coding: nowhere\n", (1, 1)),
    "bytes that are no UTF-8": ("KIT101", b"x = 1\ny = '\xff'\n", (1, 1)),
    "a mark and a comment that disagree": ("KIT101", b"\xef\xbb\xbf# coding: latin-1\n", (1, 1)),
    "UTF-16": ("KIT101", "x = 1\n".encode("utf-16"), (1, 1)),
    "a syntax error": ("KIT101", "def main(:\n    ...\n", (1, 10)),
    "a bad indentation": ("KIT101", "if x:\n  y = 1\n z = 2\n", (3, 7)),
    "code that parses and does not compile": ("KIT101", "def f():\n    break\n", (2, 5)),
    "a chain of 5,000 aliases": (
        "KIT102",
        PRELUDE
        + "a0 = a\n"
        + "".join(f"a{n + 1} = a{n}\n" for n in range(5000))
        + "@flow\ndef main(): return a5000(1)\n",
        (1, 1),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_place(name: str, tmp_path: Path) -> None:
    code, source, place = REFUSED[name]
    found = refused(written(tmp_path, source))
    # From Python 3.12 on its own parser gives up on the elifs before our limit, and names no place.
    places = {place, (1, 1)} if name == "2,000 elifs" else {place}
    assert found.code == code
    assert (found.span.line, found.span.column) in places


def test_a_file_without_a_flow(tmp_path: Path) -> None:
    for source in ("", "\n\n", "# only a comment", "x = 1\n", "\ufeff", "\f"):
        assert refused(written(tmp_path, source)).code == "KIT103"


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.py", tmp_path, tmp_path / "no" / "folder.py"):
        with pytest.raises(UsageError, match="Cannot read"):
            compile_flow(path)
        with pytest.raises(UsageError, match="Cannot read"):
            check(path)


DEEP = {
    "parentheses": f"    return {'(' * 150}a(1){')' * 150}\n",
    "lists": f"    return {'[' * 150}a(1){']' * 150}\n",
    "calls": f"    return {'a(' * 150}1{')' * 150}\n",
    "operands": f"    return {'+'.join(['a(1)'] * 180)}\n",
    "negations": f"    return {'not ' * 190}a(1)\n",
    "lambdas": f"    return {'lambda: ' * 90}a(1)\n",
    "ternaries": f"    return {'a(1) if x else ' * 60}1\n",
    "ifs": "".join("    " * n + "if x:\n" for n in range(1, 90)) + "    " * 90 + "a(1)\n",
    "elifs": "    if x: a(1)\n" + "".join(f"    elif x == {n}: a({n})\n" for n in range(150)),
    "strings": f"""    return a({"'a' " * 100_000})\n""",
    "functions": "".join("    " * n + f"def f{n}():\n" for n in range(1, 80))
    + "    " * 80
    + "a(1)\n",
    "early returns": "".join(f"    if x == {n}: return a({n})\n    y = {n}\n" for n in range(150)),
    "checkpoints in a row": "    a(1)\n" * 450,
    "joins": "".join(f"    if x == {n}: a({n})\n" for n in range(120)),
    "conjunction": f"    return {' and '.join(['a(1)'] * 150)}\n",
    "plain operands of a conjunction": f"    return {'x and ' * 150}a(1)\n",
    "chained comparison": f"    return {' < '.join(['a(1)'] * 60)}\n",
    "more checkpoints than a pipeline holds": "    a(1)\n" * 501,
    "loops over too much": "    for i in range(10 ** 9): a(i)\n    for i in range(65): b(i)\n",
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_long_source_compiles(name: str, tmp_path: Path) -> None:
    compilation = compile_flow(written(tmp_path, FLOW + DEEP[name]))
    compile(compilation.steps_py, "steps.py", "exec")
    assert compilation.plan.steps


ODD = {
    "a megabyte of text": (FLOW + f"    return a('ü{'x' * 1_000_000}')\n").encode(),
    "a byte order mark": ("\ufeff" + FLOW + "    return a('ü')\n").encode(),
    "Latin-1": ("# coding: latin-1\n" + FLOW + "    return a('ü')\n").encode("latin-1"),
    "CRLF": (FLOW + "    y = a(\n        'ü')\n    return b(y)\n").replace("\n", "\r\n").encode(),
    "CR": (FLOW + "    y = a('ü')\n    return b(y)\n").replace("\n", "\r").encode(),
    "form feeds": ("\f" + FLOW + "\f    y = a('ü')\n\f\n    return b(y)\n").encode(),
    "no line end": (FLOW + "    return a('ü')").encode(),
    "tabs": (FLOW + "    return a('ü')\n").replace("    ", "\t").encode(),
    "bidi": (FLOW + "    return a('ü')  # \u202e txet \u2066\n").encode(),
    "line separators": (FLOW + "    return a('ü\u2028\x85')  # \u2028\n").encode(),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_compile_and_keep_their_text(name: str, tmp_path: Path) -> None:
    compilation = compile_flow(written(tmp_path, ODD[name]))
    assert "ü" in compilation.steps_py
    assert compilation.plan.blocks[1].span.line == FIRST + (name == "Latin-1")


def test_what_steers_a_terminal_is_not_printed(tmp_path: Path) -> None:
    path = written(tmp_path, FLOW + "    while x: a('\u202e\x1b[31m')  # \u2066\x07\n")
    shown = render(*check(path)[:2])
    assert "KIT310" in shown
    assert not set(shown) & set("\u202e\x1b\u2066\x07")


def test_nothing_of_the_module_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nraise SystemExit(1)\n"
    (tmp_path / "beside.py").write_text(source)
    path = written(tmp_path, source + "import beside\n" + FLOW + "    return a(x)\n")
    assert compile_flow(path).plan.steps
    assert not mark.exists()


def test_a_broken_module_beside_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("x = 1\ndef f(:\n")
    found = refused(written(tmp_path, "import beside\n" + FLOW + "    return a(x)\n"))
    assert (found.code, found.span.file, found.span.line) == ("KIT101", "beside.py", 2)
