"""Findings as SARIF and as GitHub's workflow commands."""

from __future__ import annotations

import re

import pytest
from kitaru_compiler.diagnostics import catalogue
from kitaru_compiler.diagnostics.github import to_github
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.sarif import to_sarif

from kitaru.wire.plan import Span

from .conftest import Kitaru

BAD = """\
import time
from kitaru import checkpoint, flow


@checkpoint
def draft(x=0): return x


@flow
def main():
    draft(time.time())
    draft(1, id="one")
    return draft(2, id="one")
"""
WARNED = BAD.replace('id="one")\n    return', 'id="two")\n    return')
CLEAN = WARNED.replace("time.time()", "3")
COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")


def test_check_as_sarif(kitaru: Kitaru) -> None:
    kitaru.write("my flows/bad.py", BAD)
    done = kitaru("check", "my flows/bad.py", "--format", "sarif", code=1)
    assert done.err == ""
    assert done.document["version"] == "2.1.0"
    (run,) = done.document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["KIT202", "KIT604"]
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("KIT202", "warning"),
        ("KIT604", "error"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
    first = run["results"][0]["locations"][0]["physicalLocation"]
    assert first["artifactLocation"] == {"uri": "my%20flows/bad.py"}
    assert first["region"] == {"startLine": 11, "startColumn": 11, "endLine": 11, "endColumn": 22}
    (related,) = run["results"][1]["relatedLocations"]
    assert related["physicalLocation"]["region"]["startLine"] == 12
    assert related["message"]["text"] == "taken here"


def test_a_clean_flow_is_a_document_without_results(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", CLEAN)
    (run,) = kitaru("check", "flow.py", "--format=sarif").document["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])
    assert kitaru("check", "flow.py", "--format", "github").out == ""


def test_check_for_github(kitaru: Kitaru) -> None:
    kitaru.write("bad.py", BAD)
    lines = kitaru("check", "bad.py", "--format", "github", code=1).out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "::warning file=bad.py,line=11,endLine=11,col=11,title=KIT202 clock-in-flow::`time.time` "
    )
    assert all(COMMAND.fullmatch(line) for line in lines)
    assert lines[1].startswith("::error file=bad.py,line=13,")


def test_json_is_the_same_however_it_is_asked_for(kitaru: Kitaru) -> None:
    kitaru.write("flow.py", WARNED)
    document = kitaru("check", "flow.py", "--json").document
    assert [d["code"] for d in document["diagnostics"]] == ["KIT202"]
    assert kitaru("check", "flow.py", "--format", "json").document == document
    wanted = kitaru("compile", "flow.py", "--target", "vertex", "--json").document
    asked = kitaru("compile", "flow.py", "--target", "vertex", "--format", "json").document
    assert asked == wanted


@pytest.mark.parametrize("form", ["sarif", "github"])
def test_compile_writes_findings_and_the_build(form: str, kitaru: Kitaru) -> None:
    kitaru.write("flow.py", WARNED)
    done = kitaru("compile", "flow.py", "--target", "vertex", "--format", form)
    assert (kitaru.folder / "build/main/vertex/pipeline.yaml").is_file()
    if form == "sarif":
        assert [r["ruleId"] for r in done.document["runs"][0]["results"]] == ["KIT202"]
    else:
        assert done.out.startswith("::warning file=flow.py,") and "main for vertex" in done.out


@pytest.mark.parametrize("form", ["sarif", "github"])
def test_compile_tells_errors_in_the_same_form(form: str, kitaru: Kitaru) -> None:
    kitaru.write("flow.py", BAD)
    done = kitaru("compile", "flow.py", "--target", "vertex", "--format", form, code=1)
    assert not (kitaru.folder / "build").exists()
    if form == "sarif":
        assert len(done.document["runs"][0]["results"]) == 2
    else:
        assert [line.partition(" ")[0] for line in done.out.splitlines()] == [
            "::warning",
            "::error",
        ]


def finding(file: str, message: str) -> Diagnostic:
    return Diagnostic(catalogue.load("KIT310"), Span(file, 3, 5, 4, 2), message)


def test_what_would_end_a_workflow_command_is_escaped() -> None:
    (line,) = to_github([finding("a,b:c%.py", "50%: one\r\ntwo, ::error::three")])
    assert line == (
        "::notice file=a%2Cb%3Ac%25.py,line=3,endLine=4,col=5,title=KIT310 while-stays-together"
        "::50%25: one%0D%0Atwo, ::error::three"
    )


def test_a_uri_is_quoted() -> None:
    (result,) = to_sarif([finding("é d#.py", "x")])["runs"][0]["results"]
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "%C3%A9%20d%23.py"}
