"""A comment on the line of a note suppresses it for every command, and `--strict` allows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow

from kitaru.cli.app import run

from .page import FOLDER, Page

# Not of one flow's source: as if a document, or a flow, could be no larger.
OF_SIZE = ("KIT324", "KIT607")
UNCUT = [path for path in sorted(FOLDER.glob("KIT*.md")) if not path.stem.startswith(OF_SIZE)]


def suppressed(source: str, folder: Path) -> Path:
    """Write a source with a comment at the end of each line that has a finding."""
    path = folder / "flow.py"
    path.write_text(source, encoding="utf-8")
    lines = source.split("\n")
    codes: dict[int, set[str]] = {}
    for finding in compile_flow(path).diagnostics:
        codes.setdefault(finding.span.line, set()).add(finding.code)
    for line, found in codes.items():
        lines[line - 1] += f"  # kitaru: ignore[{', '.join(sorted(found))}]"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", UNCUT, ids=lambda path: path.stem)
def test_each_note_can_be_suppressed(path: Path, tmp_path: Path) -> None:
    file = suppressed(Page(path).source, tmp_path)
    findings = check(file).findings
    assert findings and all(finding.silenced for finding in findings)
    assert all(finding.silenced for finding in compile_flow(file).diagnostics)


CALL = "[a(text) for text in texts]"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (f"return sorted(\n        {CALL},\n        key=len,\n    )", 2),
        (f"return sorted({CALL}) + \\\n        texts", 2),
        (f'return sorted({CALL}) + ["""\n    """]', 2),
        (f"return [\n        *{CALL},\n    ]", 2),
    ],
)
def test_a_note_in_a_statement_of_several_lines(body: str, line: int, tmp_path: Path) -> None:
    head = Page(FOLDER / "KIT314.md").source.partition("@flow")[0]
    lines = body.split("\n")
    lines[line - 1] += "  # kitaru: ignore[KIT314]"
    body = "\n".join(lines)
    source = f"{head}@flow\ndef main(texts: list[str]) -> list[str]:\n    {body}\n"
    path = tmp_path / "flow.py"
    path.write_text(source, encoding="utf-8")
    assert [(d.code, d.silenced) for d in check(path).findings] == [("KIT314", True)]


def test_a_note_about_a_whole_flow_is_on_the_line_of_its_def(tmp_path: Path) -> None:
    source = Page(FOLDER / "KIT324.md").source
    loud = "locals = 1\n" + source.replace("@flow", "@flow(\n    retries=1,\n)").replace(
        "def main(text: str)", "def main(  # kitaru: ignore[KIT319]\n    text: str,\n)"
    )
    path = tmp_path / "flow.py"
    path.write_text(loud, encoding="utf-8")
    assert [(d.code, d.silenced) for d in check(path).findings] == [("KIT319", True)]


@pytest.mark.parametrize(
    "command",
    [
        ("check", "flow.py"),
        ("compile", "flow.py", "--target", "vertex"),
        ("deploy", "flow.py", "--target", "vertex", "--dry-run"),
        ("dry-run", "flow.py", "--target", "vertex", "--input", "text=x"),
    ],
    ids=lambda command: command[0],
)
def test_strict_counts_what_is_not_suppressed(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Page(FOLDER / "KIT310.md").source
    Path("flow.py").write_text(source, encoding="utf-8")
    assert run([*command, "--strict"]) == 1
    if command[0] != "dry-run":
        suppressed(source, tmp_path)
        assert run([*command, "--strict"]) == 0
