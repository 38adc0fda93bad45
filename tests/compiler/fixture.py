"""Reads one fixture: a page with the source of a flow, and says what should follow it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kitaru_compiler import compile_flow
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_compiler.diagnostics.render import render

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Resources, Step, StepItem

FOLDER = Path(__file__).with_name("fixtures")
START = "## What becomes of it\n"
_BLOCK = re.compile(r"^```python *(?P<info>.*)\n(?P<code>(?s:.*?))^```$", re.M)


@dataclass
class Fixture:
    """One page: `text` is written by a person, `expected` is the compiler's output."""

    path: Path
    text: str
    expected: str
    files: dict[str, str] = field(default_factory=dict)
    granularity: Any = "checkpoint"
    flow: str | None = None

    def actual(self) -> str:
        """Compile the page's flow; return what should stand under its source."""
        with TemporaryDirectory() as folder:
            for name, source in self.files.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(source, encoding="utf-8")
            try:
                made = compile_flow(
                    Path(folder) / "flow.py", self.flow, granularity=self.granularity
                )
            except SourceError as error:
                return _findings(render(error.diagnostics, error.sources))
        shown = render(made.diagnostics, made.sources)
        return "\n".join([*_steps(made.plan), _code(made.steps_py), _findings(shown)])


def read(path: Path) -> Fixture:
    """Return the fixture of one page."""
    text, _, expected = path.read_text(encoding="utf-8").partition(START)
    fixture = Fixture(path, text, expected.lstrip("\n"))
    for block in _BLOCK.finditer(text):
        options = dict(word.split("=") for word in block["info"].split())
        fixture.granularity = options.get("granularity", fixture.granularity)
        fixture.flow = options.get("flow", fixture.flow)
        fixture.files[options.get("file", "flow.py")] = block["code"]
    return fixture


def write(fixture: Fixture) -> None:
    """Write what the compiler makes of the flow into its page."""
    page = f"{fixture.text.rstrip()}\n\n{START}\n{fixture.actual()}"
    fixture.path.write_text(page, encoding="utf-8")


def _steps(plan: Plan) -> Iterator[str]:
    yield "| step | starts at | runs | continues at |\n|---|---|---|---|"
    for step in plan.steps:
        exits = ", ".join(name or "the end" for name in step.exits) or "–"
        notes = "".join(f"; {note}" for note in _notes(step))
        blocks = ", ".join(step.blocks)
        yield f"| {step.name} | {step.entry} | {blocks}{notes} | {exits} |"
    yield "\n" + "\n".join(_layout(plan.layout)) + "\n"


def _notes(step: Step) -> Iterator[str]:
    if step.per_item:
        yield "one call a node"
    if step.may_wait:
        yield "may wait"
    if step.retries:
        pause = f", after {step.retry_delay} s × {step.backoff}" if step.retry_delay else ""
        yield f"retries: {step.retries} ({step.retry}{pause})"
    if step.isolated:
        yield "isolated"
    if step.resources != Resources():
        asked = step.resources
        yield f"cpu {asked.cpu or '–'}, memory {asked.memory or '–'}, gpu {asked.gpu}"


def _layout(items: tuple[LayoutItem, ...], depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    for item in items:
        match item:
            case StepItem(name):
                yield f"{indent}- {name}"
            case FanItem(fan=fan, producer=producer):
                yield f"{indent}- {fan}, once for each item of {producer}"
            case BranchItem(decider=decider, arms=arms, span=span):
                yield f"{indent}- branch of line {span.line}, decided by {decider or 'several'}"
                for number, arm in enumerate(arms, 1):
                    yield f"{indent}  - arm {number}{'' if arm else ': nothing'}"
                    yield from _layout(arm, depth + 2)
            case _:
                yield f"{indent}- wait {item.block}"


def _code(steps_py: str) -> str:
    _, _, functions = steps_py.partition('\n"""\n')
    return f"```python\n{functions.strip() or '# no blocks: the flow runs as it is'}\n```\n"


def _findings(shown: str) -> str:
    return f"```text\n{shown.strip()}\n```\n" if shown else "Nothing to say about it.\n"
