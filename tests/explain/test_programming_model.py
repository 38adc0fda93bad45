"""The stages of the programming model: each follows from the one before, and has its picture."""

from __future__ import annotations

import os
import re
from pathlib import Path
from textwrap import dedent

import pytest

from kitaru.cli.output import Output
from kitaru.cli.render.explanation import show
from kitaru.ops.compile import request
from kitaru.ops.explain import REASONS, Explanation, explain
from kitaru.ops.flow_ref import locate
from kitaru.ops.graph import graph

from .test_changes import patched, returned
from .test_codes import UNCUT

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "concepts" / "programming-model.md"
_STAGE = re.compile(
    r"<!-- before:\n(?P<head>(?s:.*?))-->\n```python\n(?P<body>(?s:.*?))```\n\n"
    r"!\[Stage (?P<number>\d)\. [^]]+\]\((?P<picture>[^)]+)\)"
)
_EXPLAINED = re.compile(r"(?<=is explained like this:\n\n```text\n)(?s:.*?)(?=^```$)", re.M)
_TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
# The author's bound in place of the proposed one.
_BOUNDS = {4: ("range(3)", "range(2)")}
_CODES_OF_CHANGES = {2: "KIT312", 3: "KIT311", 4: "KIT310"}


def stages() -> dict[int, tuple[str, Path]]:
    """Return the source and the picture of each stage."""
    found = {}
    for match in _STAGE.finditer(PAGE.read_text(encoding="utf-8")):
        source = f"{dedent(match['head'])}\n\n{match['body']}"
        found[int(match["number"])] = (source, PAGE.parent / match["picture"])
    return found


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def explained(source: str, target: str = "airflow") -> Explanation:
    Path("flow.py").write_text(source, encoding="utf-8")
    return explain(request("flow.py", target, "build"))


@pytest.mark.parametrize("number", range(1, 6))
def test_the_picture_is_what_graph_draws(number: int) -> None:
    source, picture = stages()[number]
    Path("flow.py").write_text(source, encoding="utf-8")
    drawn = graph(locate("flow.py"), "airflow").text("svg")
    if os.environ.get("KITARU_WRITE"):
        picture.write_text(drawn, encoding="utf-8")
    # Its words, not its colours, which change more often.
    assert _TEXT.findall(picture.read_text(encoding="utf-8")) == _TEXT.findall(drawn)


@pytest.mark.parametrize("number", _CODES_OF_CHANGES)
def test_a_stage_is_what_is_proposed_for_the_one_before(number: int) -> None:
    before, after = stages()[number - 1][0], stages()[number][0]
    parts = {part.code: part for part in explained(before).uncut}
    proposal = parts[_CODES_OF_CHANGES[number]].proposal
    assert proposal is not None
    assert patched(before, proposal.diff).replace(*_BOUNDS.get(number, ("", ""))) == after


def test_the_last_stage_has_no_region() -> None:
    assert explained(stages()[5][0]).uncut == ()


def test_the_stages_have_equal_results(tmp_path: Path) -> None:
    results = [returned(tmp_path, stages()[number][0], ["tea", "kayaks"]) for number in range(1, 5)]
    assert results == ["notes on tea; notes on kayaks!"] * 4


def test_the_explanation_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(stages()[2][0], "vertex")
    capsys.readouterr()
    show(found, Output(False))
    printed = capsys.readouterr().out
    printed = printed[printed.index("KIT310 flow.py:", printed.index("left uncut")) :]
    text = PAGE.read_text(encoding="utf-8")
    if os.environ.get("KITARU_WRITE"):
        PAGE.write_text(_EXPLAINED.sub(lambda _: printed, text), encoding="utf-8")
    (shown,) = _EXPLAINED.findall(PAGE.read_text(encoding="utf-8"))
    assert shown == printed


def test_every_code_and_reason_has_a_row() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {code for code in UNCUT if f"\n| {code} | " not in text} == set()
    rows = [line for line in text.split("\n") if line.startswith("| `")]
    assert {code for code in REASONS if not any(f"`{code}`" in row for row in rows)} == set()
