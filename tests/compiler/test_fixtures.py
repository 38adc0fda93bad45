"""What the compiler makes of each construct is what its page says: steps, code and findings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compiler import fixture

NOTES = ("kit201", "kit31", "kit32")
PAGES = sorted(fixture.FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_what_the_compiler_makes(page: Path) -> None:
    found = fixture.read(page)
    if os.environ.get("KITARU_WRITE"):
        fixture.write(found)
    else:
        assert found.actual() == found.expected


def test_every_note_of_the_compiler_is_on_a_page() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    rules = {path.stem.upper() for path in _rules() if path.stem.startswith(NOTES)}
    assert {rule for rule in rules if f"[{rule}]" not in shown} == set()


def _rules() -> list[Path]:
    from kitaru_compiler.diagnostics import rules

    assert rules.__file__
    return [*Path(rules.__file__).parent.glob("kit*.py")]
