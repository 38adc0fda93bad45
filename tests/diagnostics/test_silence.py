"""A comment silences the findings that it names on its line, and nothing else."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow
from kitaru_compiler.diagnostics.github import to_github
from kitaru_compiler.diagnostics.render import render, summary, to_json
from kitaru_compiler.diagnostics.sarif import to_sarif

HEAD = """\
import time
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(x=0, y=0): return x

@flow
def main(a=1, xs=()):
"""


def write(folder: Path, body: str) -> Path:
    path = folder / "flow.py"
    path.write_text(HEAD + textwrap.indent(body, "    ") + "\n", encoding="utf-8")
    return path


def told(path: Path) -> list[str]:
    """The findings of a file as `code line:column`, those silenced in brackets."""
    shown = [(d.silenced, f"{d.code} {d.span.line}:{d.span.column}") for d in check(path)[0]]
    return [f"({text})" if silenced else text for silenced, text in shown]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return draft(time.time())", ["KIT202 10:18"]),
        ("return draft(time.time())  # kitaru: ignore[KIT202]", ["(KIT202 10:18)"]),
        ("return draft(time.time())  # why  #kitaru:ignore [kit202]", ["(KIT202 10:18)"]),
        ("return draft(\n    time.time())  # kitaru: ignore[KIT202]", ["(KIT202 11:9)"]),
        (
            "while draft(time.time()): draft()  # kitaru: ignore[KIT202 ,KIT310]",
            ["(KIT310 10:5)", "(KIT202 10:17)"],
        ),
        (
            "return draft(time.time())  # kitaru: ignore[KIT203]",
            ["KIT202 10:18", "KIT110 10:49"],
        ),
        ("# kitaru: ignore[KIT202]\nreturn draft(time.time())", ["KIT110 10:22", "KIT202 11:18"]),
        ("return draft('# kitaru: ignore[KIT202]', time.time())", ["KIT202 10:46"]),
        ("return draft(a)  # kitaru: ignore", ["KIT110 10:22"]),
        ("return draft(a)  # kitaru: ignore[KIT999]", ["KIT110 10:39"]),
        ("return draft(a)  # kitaru: ignored", []),
        # A line that ends in a backslash, or inside a string, has no room for a comment.
        ("return \\\n    draft(time.time())  # kitaru: ignore[KIT202]", ["(KIT202 11:15)"]),
        (
            "x = draft(time.time()) + \\\n    a  # kitaru: ignore[KIT202]\nreturn x",
            ["(KIT202 10:15)"],
        ),
        (
            'x = draft(time.time(), """\n""")  # kitaru: ignore[KIT202]\nreturn x',
            ["(KIT202 10:15)"],
        ),
        (
            "x = draft(time.time(),\n    a)  # kitaru: ignore[KIT202]\nreturn x",
            ["KIT202 10:15", "KIT110 11:30"],
        ),
        ("while draft(  # kitaru: ignore[KIT310]\n    a,\n): draft()", ["(KIT310 10:5)"]),
    ],
)
def test_a_line_and_its_codes(body: str, expected: list[str], tmp_path: Path) -> None:
    assert told(write(tmp_path, body)) == expected


def test_an_error_is_not_silenced(tmp_path: Path) -> None:
    body = "draft(1, id='a')\nreturn draft(2, id='a')  # kitaru: ignore[KIT604]"
    assert told(write(tmp_path, body)) == ["KIT604 11:24"]


def test_what_another_flow_may_need_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "return draft(a)")
    lonely = "def other(): return time.time()  # kitaru: ignore[KIT202]\n"
    path.write_text(path.read_text() + lonely)
    assert told(path) == []
    path.write_text(path.read_text() + "@flow\n" + lonely.replace("other", "second"))
    assert told(path) == ["(KIT202 13:22)"]
    assert check(path, "main")[0] == ()


def test_a_checkpoint_that_the_flow_calls_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path, "return draft(a)")
    path.write_text(path.read_text().replace("return x", "return x  # kitaru: ignore[KIT207]"))
    assert told(path) == ["KIT110 6:49"]


def test_a_requirement_is_silenced_in_its_own_file(tmp_path: Path) -> None:
    path = write(tmp_path, "return draft(a)")
    (tmp_path / "requirements.txt").write_text("pandas>=2  # kitaru: ignore[KIT501]\nrich>=1\n")
    assert told(path) == ["(KIT501 1:1)", "KIT501 2:1"]


def test_every_form_knows_it(tmp_path: Path) -> None:
    path = write(tmp_path, "return draft(time.time(), a is 1)  # kitaru: ignore[KIT202]")
    found, sources, *_ = check(path)
    assert summary(found) == "1 warning, 1 silenced"
    assert render(found, sources).count("warning[") == 1
    assert [line.count("KIT209") for line in to_github(found)] == [1]
    assert {d["code"]: d["silenced"] for d in map(to_json, found)} == {
        "KIT202": True, "KIT209": False,
    }  # fmt: skip
    results = to_sarif(found)["runs"][0]["results"]
    assert {r["ruleId"]: r.get("suppressions") for r in results} == {
        "KIT202": [{"kind": "inSource"}], "KIT209": None,
    }  # fmt: skip


def test_compiling_silences_too_and_says_nothing_of_comments(tmp_path: Path) -> None:
    body = "x = draft(time.time())  # kitaru: ignore[KIT202]\nreturn x  # kitaru: ignore[KIT310]"
    found = compile_flow(write(tmp_path, body)).diagnostics
    assert [(d.code, d.silenced) for d in found] == [("KIT202", True)]


def test_an_id_among_parameters_of_any_name_is_taken_by_no_call(tmp_path: Path) -> None:
    path = write(tmp_path, "get(id='a', after=1)\nreturn get(id='a', page=2)")
    source = path.read_text(encoding="utf-8")
    takes_any = "@checkpoint\ndef get(**params): return params\n\n@flow"
    path.write_text(source.replace("@flow", takes_any), encoding="utf-8")
    assert told(path) == []
