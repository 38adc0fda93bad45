"""The code in the documentation runs, and the commands of the quickstart print what it shows.

Every Python block runs as a file of its own. A comment before the block, which readers do not see,
completes it or excuses it:

    <!-- before: code that runs before the block -->
    <!-- flow: the same, for a block that is the body of a flow -->
    <!-- harness: code before a block that only runs in the environment of its harness -->
    <!-- fragment: why the block cannot run -->
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import forks

from .conftest import ROOT, tracked

BLOCK = re.compile(
    r"(?:^ *<!-- (before|flow|harness|fragment):[ \n]*(.*?)-->\n+)?"
    r"^( *)```python([^\n]*)\n(.*?)^\3```",
    re.MULTILINE | re.DOTALL,
)
FLOW = "\n@kitaru.flow\ndef page() -> object:\n"
QUICKSTART = ROOT / "docs" / "quickstart.md"
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What differs from run to run: ids, times, durations.
VARYING = [
    (r"\b[0-9a-z]{8,9}-[0-9a-z]{8,9}\b", "EXECUTION"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d", "TIME"),
    (r"\b\d+\.\d\d s", "SECONDS"),
]


@dataclass(frozen=True)
class Block:
    place: str
    code: str
    fragment: str | None = None
    harness: bool = False


def blocks() -> list[Block]:
    # Diagnostics show code that must not be written; tests/diagnostics checks both kinds.
    pages = [p for p in tracked("README.md", "docs/*.md") if p.name != "rules.md"]
    return [block for page in pages for block in blocks_of(page)]


def blocks_of(page: Path) -> list[Block]:
    text, found = page.read_text("utf-8"), []
    for match in BLOCK.finditer(text):
        kind, note, _, _, code = match.groups()
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start(3)) + 1}"
        code, note = textwrap.dedent(code), textwrap.dedent(note or "")
        if kind in ("before", "harness"):
            code = f"{note}\n{code}"
        elif kind == "flow":
            code = f"{note}\n{FLOW}{textwrap.indent(code, '    ')}\npage.run().wait()\n"
        fragment = note.strip() if kind == "fragment" else None
        found.append(Block(place, code, fragment, kind == "harness"))
    return found


def execute(words: list[str], folder: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    done = forks.run([sys.executable, *words], cwd=folder, env=kept, merge=True, timeout=240)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("block", blocks(), ids=lambda b: b.place)
def test_a_python_block_runs(block: Block, tmp_path: Path) -> None:
    if block.fragment is not None:
        assert len(block.fragment.split()) >= 3, "a fragment needs a reason"
        compile(block.code, block.place, "exec")
        return
    if block.harness:
        # The tests of the harness run it: tests/adapters.
        compile(block.code, block.place, "exec")
        return
    (tmp_path / "page.py").write_text(block.code, "utf-8")
    execute(["page.py"], tmp_path)


def test_every_python_block_is_found() -> None:
    fences = sum(p.read_text("utf-8").count("```python") for p in tracked("README.md", "docs/*.md")
                 if p.name != "rules.md")  # fmt: skip
    assert len(blocks()) == fences > 10


def test_the_quickstart_prints_what_it_shows(tmp_path: Path) -> None:
    text = QUICKSTART.read_text("utf-8")
    for match in BLOCK.finditer(text):
        if match[4].strip().startswith("file="):
            (tmp_path / match[4].strip().removeprefix("file=")).write_text(match[5], "utf-8")
    shown = "".join(CONSOLE.findall(text))
    transcript = ""
    for command in re.findall(r"^\$ kitaru (.*)$", shown, re.MULTILINE):
        printed = execute(["-m", "kitaru", *shlex.split(command)], tmp_path)
        transcript += f"$ kitaru {command}\n{printed}"
    assert plain(transcript) == plain(shown)


def plain(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text


def test_a_block_with_an_error_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("import kitaru\nkitaru.absent()\n")
    with pytest.raises(AssertionError, match="absent"):
        execute(["page.py"], tmp_path)
