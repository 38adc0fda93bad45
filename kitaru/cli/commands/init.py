"""Decides what a new project holds."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
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


@click.command(short_help="Start a project: a flow, a pyproject.toml.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@options.as_json
@options.pass_output
def init(output: Output, directory: Path) -> None:
    """Start a project in DIRECTORY (default: here).

    Files that exist are left alone; a flow that exists is an error.
    """
    if (directory / "review_flow.py").exists():
        raise UsageError(f"{directory / 'review_flow.py'} exists already.", help="kitaru init DIR")
    directory.mkdir(parents=True, exist_ok=True)
    written = [name for name, text in FILES.items() if _write(directory / name, text)]
    if output.as_json:
        output.document({"directory": str(directory), "files": written})
        return
    for name in written:
        output.say(f"{label('wrote', 'green')} {directory / name}")
    where = "" if directory == Path() else f"cd {directory} && "
    output.say(f"next  {where}kitaru run review_flow.py --input topic=kayaks")


def _write(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
