"""Create a project with a flow and a pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from kitaru.errors import UsageError

FLOW = '''\
"""Drafts a text and asks a person before it goes out."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def research(topic: str) -> str:
    return kitaru.llm(prompt=f"Research: {topic}. Return a brief.", model="fast")


@checkpoint(retries=2)
def draft(brief: str) -> str:
    return kitaru.llm(prompt=f"Write a draft from this brief:\\n{brief}", model="fast")


@flow
def review_flow(topic: str) -> str:
    brief = research(topic)
    text = draft(brief)
    approved = kitaru.wait(name="approve_draft", question="Approve draft?", schema=bool)
    return text if approved else "Rejected"
'''
PROJECT = """\
[tool.kitaru]
store = "sqlite:.kitaru/kitaru.db"

# Until "fast" names a model, a built-in offline one answers, and says so.
[tool.kitaru.models]
# fast = "openai/gpt-4.1-mini"
"""
FILES = {"review_flow.py": FLOW, "pyproject.toml": PROJECT, ".gitignore": ".kitaru/\nbuild/\n"}


def init(directory: Path) -> list[str]:
    """Write the files of a new project; return the names of the written files.

    Existing files are not changed.

    Raises:
        UsageError: the file of the flow already exists.

    Example:
        init(Path("review"))
    """
    if (directory / "review_flow.py").exists():
        raise UsageError(f"{directory / 'review_flow.py'} exists already.", help="kitaru init DIR")
    directory.mkdir(parents=True, exist_ok=True)
    return [name for name, text in FILES.items() if _write(directory / name, text)]


def _write(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
