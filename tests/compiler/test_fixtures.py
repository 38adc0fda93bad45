"""What the compiler makes of each construct is what its page says: steps, code and findings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kitaru_compiler.diagnostics.catalogue import codes

from tests.compiler import fixture

NOTES = ("KIT201", "KIT31", "KIT32")
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
    notes = {code for code in codes() if code.startswith(NOTES)}
    # A fault of the compiler, which test_faults.py injects, is on none.
    assert {code for code in notes if f"[{code}]" not in shown} == {"KIT325"}
