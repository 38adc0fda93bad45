"""Findings, steps and fixes of a flow's file, for editors.

All results are derived from the text in the editor, which need not be saved. Nothing is imported or
run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import KitaruError

if TYPE_CHECKING:
    from kitaru_compiler.diagnostics.model import Diagnostic

    from kitaru.wire.plan import Block, Plan, Step

# A file without a flow is not an error in an editor, which opens every Python file.
_ABOUT_THE_COMMAND = ("KIT103", "KIT104", "KIT105")
_SHOWN = ("checkpoint", "llm", "region", "wait", "fan", "flow")


@dataclass(frozen=True, slots=True)
class Place:
    """A step, a region or a wait: its lines from 1, a title, and a description in Markdown."""

    line: int
    end_line: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class QuickFix:
    """A change of a file that fixes a finding; `text` is the whole new text."""

    finding: Diagnostic
    path: Path
    text: str


@dataclass(frozen=True)
class Document:
    """A file of a project as edited; it must exist on disk, with any content.

    Args:
        path: path of the file, which need not exist yet.
        text: the text in the editor.
        target: cut for this target; empty for the finest cut of any target.

    Example:
        for finding in Document(Path("flow.py"), text).findings:
            print(finding.code, finding.span.line)
    """

    path: Path
    text: str
    target: str = ""

    @property
    def is_relevant(self) -> bool:
        """Whether the file may be related to Kitaru."""
        return "kitaru" in self.text

    @cached_property
    def _whole(self) -> Path:
        return self.path.resolve()

    @cached_property
    def _base(self) -> Path:
        from kitaru_compiler.frontend.project import base_of

        return base_of(self._whole)

    @cached_property
    def findings(self) -> list[Diagnostic]:
        """The findings of `kitaru check` in this file, without suppressed ones."""
        from kitaru_compiler import check

        if not self.is_relevant:
            return []
        try:
            found = check(self._whole, unsaved={self._whole: self.text})
        except (KitaruError, OSError):
            # A file that was never saved belongs to no project.
            return []
        return [
            one
            for one in found.findings
            if not one.silenced
            and one.code not in _ABOUT_THE_COMMAND
            and found.base / one.span.file == self._whole
        ]

    @cached_property
    def places(self) -> list[Place]:
        """The steps, regions and waits of the file's flows; empty if the source has errors."""
        if not self.is_relevant:
            return []
        try:
            return [place for plan in self._plans for place in self._places(plan)]
        except (KitaruError, OSError):
            return []

    @property
    def flows(self) -> list[str]:
        """The names of the file's flows; empty if the source has errors."""
        return [plan.flow for plan in self._plans] if self.places else []

    def place_at(self, line: int) -> Place | None:
        """Return the step, region or wait on a line; the smallest if there are several."""
        found = [place for place in self.places if place.line <= line <= place.end_line]
        return min(found, key=lambda place: place.end_line - place.line, default=None)

    def fixes(self, line: int) -> Iterator[QuickFix]:
        """Yield the fixes of the findings on a line, including unsafe ones.

        Each fix was verified: the finding disappears, and no new error or warning appears.
        """
        from kitaru_compiler.fixes.rounds import Fixing

        if not any(one.rule.fix and one.span.line == line for one in self.findings):
            return
        unsaved = {self._whole: self.text}
        fixing = Fixing(self._whole, None, "", self._base, unsafe=True, unsaved=unsaved)
        for finding, path, text in fixing.on_line(line):
            yield QuickFix(finding, path, text)

    @cached_property
    def _plans(self) -> list[Plan]:
        from kitaru_compiler import compile_flow
        from kitaru_compiler.compile import ANY_TARGET
        from kitaru_compiler.frontend.flows import find_flows
        from kitaru_compiler.frontend.names import Names
        from kitaru_compiler.frontend.project import open_project
        from kitaru_targets import registry

        unsaved = {self._whole: self.text}
        profile = registry.get(self.target).profile if self.target else ANY_TARGET
        project, source = open_project(self._whole, unsaved=unsaved)
        names = [flow.definition.name for flow in find_flows(source, Names(project))]
        return [
            compile_flow(self._whole, name, profile=profile, unsaved=unsaved).plan for name in names
        ]

    def _places(self, plan: Plan) -> Iterator[Place]:
        steps = {step.entry: step for step in plan.steps}
        # The first step also runs the block after its entry.
        first = plan.steps[0]
        steps |= dict.fromkeys(first.blocks[1:2], first)
        for block in plan.blocks:
            here = self._base / block.span.file == self._whole
            if block.kind in _SHOWN and here:
                title = _title(block, steps.get(block.name))
                text = "\n\n".join(self._text(block, steps.get(block.name)))
                yield Place(block.span.line, block.span.end_line, title, text)

    def _text(self, block: Block, step: Step | None) -> Iterator[str]:
        yield f"**{_title(block, step)}**"
        if block.reason:
            yield f"{block.reason}: {block.why}."
            if block.fix:
                yield f"Instead: {block.fix}"
            yield f"Calls: {', '.join(f'`{name}`' for name in dict.fromkeys(block.calls))}"
            yield "Each call is recorded. After a crash, recorded calls do not run again."
        if step is None:
            return
        asked = step.resources
        parts = [
            f"{step.retries} retries" if step.retries else "",
            f"cpu {asked.cpu}" if asked.cpu else "",
            f"memory {asked.memory}" if asked.memory else "",
            f"gpu {asked.gpu}" if asked.gpu else "",
            "isolated" if step.isolated else "",
        ]
        if shown := ", ".join(filter(None, parts)):
            yield shown
        if self.target:
            from kitaru_targets import registry

            low, high = registry.get(self.target).profile.start_seconds
            yield f"One container on {self.target}: starts in about {low} to {high} s."


def _title(block: Block, step: Step | None) -> str:
    if block.kind == "wait":
        return f"wait {block.name}"
    if block.reason:
        count = len(block.calls)
        return f"region: {block.reason}, {count} call{'s' if count != 1 else ''} in one step"
    if step is not None:
        return f"step {step.name}"
    return f"{block.name} runs in the step before"
