"""What the fixes make of each rule's page, and of each rule's bad example."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from kitaru_compiler.diagnostics.catalogue import rules
from kitaru_compiler.fixes.catalogue import FIXES

from tests.diagnostics.test_examples import program
from tests.fixes.page import FOLDER, Page, fixed

PAGES = sorted(FOLDER.glob("*.md"))
FIXABLE = [code for code, rule in rules().items() if rule.fix]
# Rules about the text, where every other fix leaves the tree as it was.
SAME_TREE = ("KIT109", "KIT110")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_shows_what_the_fixes_make(path: Path) -> None:
    page = Page(path)
    if os.environ.get("KITARU_WRITE"):
        page.write()
    else:
        assert page.actual() == page.expected


def test_every_rule_that_has_a_fix_has_a_function_and_a_page() -> None:
    assert list(FIXES) == FIXABLE == [page.stem for page in PAGES]


@pytest.mark.parametrize("code", FIXABLE)
def test_the_bad_example_of_a_rule_is_fixed(code: str) -> None:
    # No name of Kitaru is like `sleep`.
    example = rules()[code].bad.replace("kitaru.pause(3)", "kitaru.wiat()")
    text, before, after = fixed(program(code, example))
    ast.parse(text)
    assert code in before
    assert code not in after


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_second_run_changes_nothing(path: Path) -> None:
    once, _, _ = fixed(Page(path).source)
    assert fixed(once)[0] == once


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_without_unsafe_fixes_only_safe_ones_are_applied(path: Path) -> None:
    source = Page(path).source
    text, before, after = fixed(source, unsafe=False)
    gone = {code for code in before if before.count(code) > after.count(code)}
    safe = {code for code, rule in rules().items() if rule.fix and rule.fix.is_safe}
    assert gone <= safe
    assert (text != source) == bool(gone)


@pytest.mark.parametrize("code", SAME_TREE)
def test_fixes_of_the_text_keep_the_tree(code: str) -> None:
    source = Page(FOLDER / f"{code}.md").source
    assert ast.dump(ast.parse(fixed(source, unsafe=False)[0])) == ast.dump(ast.parse(source))
