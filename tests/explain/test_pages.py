"""Every code that leaves a place uncut has a page, with a change that was tried if there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kitaru.cli.output import Output
from kitaru.cli.render.explanation import show_all
from kitaru.ops.explain import Cost, Explanation, Part
from kitaru.wire.plan import Span

from .page import FOLDER, Page

PAGES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_is_what_is_printed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(path)
    actual = page.actual(lambda: capsys.readouterr().out)
    if os.environ.get("KITARU_WRITE"):
        page.write(actual)
    else:
        assert actual == page.expected


def test_a_table_tells_tried_changes_from_untried_ones(capsys: pytest.CaptureFixture[str]) -> None:
    span = Span("flow.py", 1, 1, 1, 1)
    parts = tuple(
        Part("region", "a", 0, code, "a reason", span, tried=tried)
        for code, tried in [("KIT310", 0), ("KIT316", 2)]
    )
    cost = Cost(1, (10, 20))
    one = Explanation("main", "vertex", "Vertex", "job", (10, 20), cost, parts)
    show_all([one], Output(as_json=False))
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == [["flow.py:1", "KIT310", "not tried"], ["flow.py:1", "KIT316", "still not cut"]]
