"""Every code by which a place stays uncut has a page, and a change that cuts it if there is one."""

from __future__ import annotations

import re
from pathlib import Path

import kitaru_compiler
import pytest
from kitaru_compiler.diagnostics.catalogue import codes, load
from kitaru_compiler.fixes.catalogue import FIXES
from kitaru_compiler.fixes.cuts.trial import CHANGES

from kitaru.ops.explain import REASONS

from .page import FOLDER, Page

# Rules about code that does not run, or runs late: they leave nothing uncut.
NOT_UNCUT = {"KIT330", "KIT331"}
# Rules of other families by which a cut is left out.
FURTHER = {"KIT201", "KIT210", "KIT607"}
# No change of one place helps: the size of the flow or of a document, a fault of the compiler, or
# tasks, which the author wants.
NO_CHANGE = {"KIT324", "KIT325", "KIT326", "KIT607"}
UNCUT = sorted({code for code in codes() if code[:4] == "KIT3"} - NOT_UNCUT | FURTHER)
_SECTION = re.compile(r"^(?P<code>KIT\d+) flow\.py:.*\n(?P<text>(?:.+\n)*)", re.M)


def sections() -> dict[str, list[str]]:
    """Return what the pages print about each code. Another test compares it with the output."""
    found: dict[str, list[str]] = {}
    for path in FOLDER.glob("*.md"):
        for match in _SECTION.finditer(Page(path).expected):
            found.setdefault(match["code"], []).append(match["text"])
    return found


def test_every_rule_of_a_region_is_known() -> None:
    """The passes name each rule that they pass to a region."""
    folder = Path(kitaru_compiler.__file__).parent / "passes"
    named = set()
    for path in folder.glob("*.py"):
        named |= set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", path.read_text(encoding="utf-8")))
    from kitaru_compiler.diagnostics.rules import cutting

    rules = {getattr(cutting, name).code for name in named if hasattr(cutting, name)}
    assert len(rules) > 10
    assert rules <= set(UNCUT)


@pytest.mark.parametrize("code", UNCUT)
def test_a_code_has_a_page_with_a_change(code: str) -> None:
    assert (code in NO_CHANGE) != (code in CHANGES or load(code).fix is not None)
    assert code != "KIT210" or code in FIXES
    if code == "KIT325":
        return  # The next test makes the compiler fail.
    shown = sections()[code]
    confirmed = [text for text in shown if "(Compiled: it cuts.)" in text]
    assert bool(confirmed) == (code not in NO_CHANGE)


def test_a_fault_of_the_compiler_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.delenv("KITARU_TRACEBACK", raising=False)
    monkeypatch.setattr("kitaru_compiler.compile.lower", fail)
    (part,) = Page(FOLDER / "KIT310.md").explanation().uncut
    assert (part.code, part.proposal, part.tried) == ("KIT325", None, 0)
    assert "report it" in part.advice


def test_a_change_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.delenv("KITARU_TRACEBACK", raising=False)
    monkeypatch.setitem(CHANGES, "KIT310", (fail,))  # type: ignore[arg-type]
    (part,) = Page(FOLDER / "KIT310.md").explanation().uncut
    assert (part.code, part.proposal) == ("KIT310", None)


@pytest.mark.parametrize("code", REASONS)
def test_a_reason_has_a_page(code: str) -> None:
    pages = [Page(path) for path in FOLDER.glob("*.md")]
    assert any(REASONS[code] in page.expected or f" {code}" in page.head for page in pages)
