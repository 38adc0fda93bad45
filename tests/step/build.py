"""Hand-written compilations: a project file, its plan and its steps.py, laid out as in a bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire import keys
from kitaru.wire.plan import Block, Parameter, Plan, Span, Step, StepItem

_zygotes: list[subprocess.Popen[str]] = []


def zygote(*request: Any) -> int:
    """Run one step in a forked process; return its exit code, negative when it was killed."""
    if not _zygotes:
        _zygotes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.step.zygote"],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    (process,) = _zygotes
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def end_zygote() -> None:
    """End the process that the steps were forked from."""
    while _zygotes:
        process = _zygotes.pop()
        process.communicate("", timeout=240)


def block(
    name: str, kind: Any, following: tuple[str | None, ...], live: tuple[str, ...], line: int = 1
) -> Block:
    return Block(0, name, kind, following, live, Span("project.py", line, 1, line, 2))


def step(name: str, entry: str, *blocks: str, **options: Any) -> Step:
    return Step(name, entry, (entry, *blocks), (), Span("project.py", 1, 1, 1, 2), **options)


def text(name: str) -> Parameter:
    return Parameter(name, "positional_or_keyword", "str", "str", True, False)


@dataclass
class Program:
    """A compiled flow in a folder, and the processes that run its steps one after another."""

    folder: Path
    source: str
    steps_py: str
    blocks: tuple[Block, ...]
    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...] = (text("topic"),)
    positions: tuple[Any, ...] = ()
    flow: str = "the_flow"
    line: int = 1

    def __post_init__(self) -> None:
        (self.folder / "kitaru_build").mkdir(parents=True, exist_ok=True)
        # Python takes the old bytecode for a file of the same size that changed in the same second.
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        (self.folder / "project.py").write_text(self.source)
        (self.folder / "kitaru_build" / "steps.py").write_text(self.steps_py)
        (self.folder / "kitaru_build" / "plan.json").write_text(self.plan().to_json())

    def plan(self) -> Plan:
        return Plan(
            flow=self.flow,
            module="project",
            file="project.py",
            line=self.line,
            doc="",
            kitaru="0",
            granularity="checkpoint",
            parameters=self.parameters,
            blocks=self.blocks,
            steps=self.steps,
            layout=tuple(StepItem(s.name) for s in self.steps),
            positions=self.positions,
        )

    @property
    def url(self) -> str:
        return f"sqlite:{self.folder / 'store.db'}"

    def has_begun(self, exec_id: str = "e1") -> bool:
        """Return whether a first step has got as far as recording the execution."""
        return open_store(self.url).get(keys.execution(exec_id)) is not None

    def journal(self, exec_id: str = "e1") -> Journal:
        return Journal.open(open_store(self.url), exec_id)

    def command(
        self,
        name: str,
        exec_id: str = "e1",
        topic: str = "kayaks",
        item: str = "",
        run_id: str = "",
    ) -> list[str]:
        """Return the arguments of a step. A later run, `run_id`, resumes `exec_id`."""
        arguments = ["step", "--plan", "kitaru_build/plan.json", "--step", name]
        arguments += ["--run", run_id or exec_id, "--execution", exec_id if run_id else ""]
        arguments += ["--store", self.url, "--item", item, "--items-file", "out/items"]
        arguments += ["--next-file", "out/next", "--status-file", "out/status"]
        if name == self.steps[0].name:
            arguments += ["--input", f"topic={topic}"]
        return arguments

    def start(
        self, name: str, *, options: Sequence[str] = (), **named: Any
    ) -> subprocess.Popen[str]:
        """Start a step the way a container does."""
        return subprocess.Popen(
            [sys.executable, "-m", "kitaru.runtime", *self.command(name, **named), *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *, kill: str = "", **options: Any) -> Ran:
        """Run a step to its end; `kill` is `before:N` or `after:N`, a store operation."""
        for output in (self.folder / "out").glob("*"):
            output.unlink()
        log = self.folder / "log.txt"
        code = zygote(str(self.folder), str(log), kill, self.command(name, **options))
        outputs = [self.folder / "out" / kind for kind in ("next", "status", "items")]
        texts = [path.read_text() if path.exists() else "" for path in outputs]
        return Ran(code, texts[0], texts[1], log.read_text(), json.loads(texts[2] or "[]"))

    def walk(self, **options: Any) -> list[str]:
        """Run the steps as a chain of guards would; return those that were gone through."""
        statuses = []
        for each in self.steps:
            ran = self.run(each.name, **options)
            assert ran.code == 0, ran.log
            statuses.append(f"{each.name}:{ran.status}")
            if ran.status == "waiting":
                break
        return statuses

    def calls(self) -> list[str]:
        """Return what the checkpoints noted each time that they ran."""
        path = self.folder / "calls.txt"
        return path.read_text().split() if path.exists() else []


@dataclass(frozen=True)
class Ran:
    code: int
    next: str
    status: str
    log: str
    items: list[str]
