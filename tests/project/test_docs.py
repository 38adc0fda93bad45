"""The documentation's links lead somewhere, and the commands it names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, tracked

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
DEV_COMMAND = re.compile(r"python3 dev\.py ([a-z-]+)")


def documents() -> list[Path]:
    return tracked("*.md")


def anchor(heading: str) -> str:
    """The name that a heading is linked by: lower case, hyphens, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(document: Path) -> set[str]:
    return {anchor(h) for h in HEADING.findall(document.read_text())}


def broken(document: Path) -> list[str]:
    found = []
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        aim = (document.parent / path).resolve() if path else document
        missing = not aim.exists() or (fragment and fragment not in anchors(aim))
        if missing:
            found.append(link)
    return found


def test_there_are_documents() -> None:
    assert ROOT / "README.md" in documents()


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken(document) == []


def broken_tables(text: str) -> list[str]:
    """Return the lines of tables that are no rows: a table that is wrapped is shown as text."""
    lines = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).split("\n")
    rows = [line for line in lines if line.startswith("|") or re.search(r"\|---", line)]
    return [line for line in rows if not re.fullmatch(r"\|.*\|", line) or "| |---" in line]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_each_row_of_a_table_is_a_line(document: Path) -> None:
    assert broken_tables(document.read_text()) == []


def test_a_wrapped_table_is_found() -> None:
    assert broken_tables("| a | b |\n|---|---|\n| c | d |\n") == []
    assert broken_tables("| a | b | |---|---| | c\n| d |\n") == ["| a | b | |---|---| | c"]
    assert broken_tables("| a | b |\n|---|---|\n| c |\nd |\n| e\n") == ["| e"]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# One\n[a](#one) [b](#two) [c](absent.md)\n")
    assert broken(document) == ["#two", "absent.md"]


def test_the_commands_of_dev_py_that_documents_name_exist() -> None:
    done = subprocess.run(
        [sys.executable, "dev.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    named = {c for document in documents() for c in DEV_COMMAND.findall(document.read_text())}
    assert named
    assert named <= set(DEV_COMMAND.findall(done.stdout))


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    decisions = [path for path in tracked("docs/adr/*.md") if path.name != "README.md"]
    assert decisions
    assert [d.name for d in decisions if f"({d.name})" not in index] == []


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("reference/rules.md", "kitaru_compiler.diagnostics.explain"),
        ("reference/targets.md", "kitaru_targets.matrix"),
    ],
)
def test_a_page_that_is_made_is_up_to_date(page: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / page).read_text() == done.stdout
