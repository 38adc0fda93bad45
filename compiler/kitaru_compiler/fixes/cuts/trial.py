"""Try changes of uncut code: compile the changed source, and keep the first that is cut.

Nothing is written. A change counts only if the compiler confirms it: more calls have a step or a
fan-out of their own, no code outside the region is uncut for it, and there is no new error or
warning. So a change that helps on one target may not help on another.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kitaru.errors import KitaruError
from kitaru.wire.plan import Block, Plan, Span
from kitaru_compiler.compile import Compilation
from kitaru_compiler.diagnostics.faults import describe_fault
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.catalogue import FIXES
from kitaru_compiler.fixes.cuts import functions, statements
from kitaru_compiler.fixes.cuts.spot import Candidate, Changer, Position, Spot
from kitaru_compiler.fixes.module import Module, Unreadable
from kitaru_compiler.fixes.rounds import is_own
from kitaru_compiler.frontend.analysis import is_readable
from kitaru_compiler.frontend.source import Source, read_text
from kitaru_compiler.ir.nodes import Region, durable_of
from kitaru_compiler.ir.walk import walk

CHANGES: dict[str, tuple[Changer, ...]] = {
    "KIT201": (functions.function_at_module_level, functions.class_at_module_level),
    "KIT310": (statements.bounded_while,),
    "KIT311": (statements.loop_over_a_result,),
    "KIT312": (statements.try_of_several_calls,),
    "KIT313": (statements.calls_after_with,),
    "KIT314": (statements.submitted_comprehension,),
    "KIT315": (statements.guard_in_the_body,),
    "KIT316": (functions.helper_that_is_known,),
    "KIT317": (functions.function_at_module_level,),
    "KIT318": (functions.function_at_module_level, functions.value_captured_now),
    "KIT319": (functions.frame_unseen,),
    "KIT320": (functions.submitted_together,),
    "KIT321": (statements.value_first,),
    "KIT322": (statements.settled_test,),
    "KIT323": (functions.call_in_branches,),
}
"""The changes to try for each code. The other codes depend on the size of a flow, or on Kitaru."""

# Notes about a condition, and about variables: the cut itself is made, or left out at run time.
CHECKED_BY_NOTE = ("KIT201", "KIT210", "KIT322")

# Each place costs at least one compilation.
MOST_TRIED = 40

Lines = tuple[str, range]
"""Lines of one file."""
Compile = Callable[[Mapping[Path, str]], Compilation]
"""Compiles the flow with texts that replace those of files, by path."""


class Outcome(NamedTuple):
    """The change that was found for a place, if any, and the number of changes that were tried."""

    change: Change | None
    tried: int


@dataclass(frozen=True)
class Change:
    """A change after which the compiler cuts the region: `before` and `after` are texts of `file`.

    `lines` are those of `after` that the region became. They contain no secret, which is an error.
    """

    what: str
    meaning: str
    file: str
    before: str
    after: str
    lines: range
    compilation: Compilation


class Trials:
    """Tries the changes for the uncut code of one compilation.

    Example:
        trials = Trials(made, lambda texts: compile_flow(path, unsaved=texts))
        trials.of_region("while_1").change
    """

    def __init__(self, before: Compilation, compile: Compile) -> None:
        self._before = before
        self._compile = compile
        self._modules: dict[str, Module | None] = {}
        self._outcomes: dict[tuple[str, Span], Outcome] = {}

    def of_region(self, block: str) -> Outcome:
        """Try to cut a region."""
        region, source = self._before.regions[block]
        whole = self._before.plan.block(block).span
        calls, submits = _positions(region, source)
        return self._of(region.rule.code, source.span(region.at), whole, calls, submits)

    def of_finding(self, finding: Diagnostic) -> Outcome:
        """Try to make a note about a condition or a variable disappear."""
        return self._of(finding.code, finding.span, finding.span, finding=finding)

    def _of(
        self,
        code: str,
        at: Span,
        whole: Span,
        calls: frozenset[Position] = frozenset(),
        submits: frozenset[Position] = frozenset(),
        finding: Diagnostic | None = None,
    ) -> Outcome:
        # Copies of an unrolled loop, and two calls of a helper, are one place of the source.
        key = (code, at)
        if key not in self._outcomes:
            module = self._module(whole.file) if len(self._outcomes) < MOST_TRIED else None
            spot = Spot(module, whole, at, calls, submits) if module else None
            self._outcomes[key] = self._first(code, spot, finding) if spot else Outcome(None, 0)
        return self._outcomes[key]

    def _module(self, file: str) -> Module | None:
        """Return a file of the project as a tree, None if it may not or cannot be read as one."""
        if file not in self._modules:
            path, base = self._before.base / file, self._before.base
            self._modules[file] = None
            if file.endswith(".py") and is_own(path, base):
                text = read_text(path, file)
                with suppress(Unreadable, SyntaxError):
                    if is_readable(Source("", file, text, ast.parse(text))):
                        self._modules[file] = Module(text)
        return self._modules[file]

    def _first(self, code: str, spot: Spot, finding: Diagnostic | None) -> Outcome:
        """Return the first change that the compiler confirms."""
        tried = 0
        try:
            for candidate in _candidates(code, spot, finding):
                tried += 1
                change = self._confirmed(code, spot, candidate)
                if change is not None:
                    return Outcome(change, tried)
        except Exception as error:
            # Without a proposal, the explanation is still correct.
            describe_fault("change", error)
        return Outcome(None, tried)

    def _confirmed(self, code: str, spot: Spot, candidate: Candidate) -> Change | None:
        text = spot.module.edited(candidate.edits)
        path = (self._before.base / spot.span.file).resolve()
        try:
            after = self._compile({path: text})
        except KitaruError:
            return None
        file = spot.span.file
        lines = _lines_after(spot.module.text, text, spot.span)
        gone = (file, range(spot.span.line, spot.span.end_line + 1))
        if not _is_better(self._before, after, gone, (file, lines)):
            return None
        if code in CHECKED_BY_NOTE:
            if _count(after, code) >= _count(self._before, code):
                return None
        elif _own_steps(after) <= _own_steps(self._before):
            return None
        return Change(candidate.what, candidate.meaning, file, spot.module.text, text, lines, after)


def _positions(region: Region, source: Source) -> tuple[frozenset[Position], frozenset[Position]]:
    """Return the positions of the durable calls of a region, and of those that submit."""
    found = [
        (durable.kind, source.span(node))
        for stmt in region.stmts
        for node in walk(stmt)
        if (durable := durable_of(node))
    ]
    places = [(kind, (s.line, s.column, s.end_line, s.end_column)) for kind, s in found]
    return (
        frozenset(place for _, place in places),
        frozenset(place for kind, place in places if kind == "submit"),
    )


def _candidates(code: str, spot: Spot, finding: Diagnostic | None) -> Iterator[Candidate]:
    for changer in CHANGES.get(code, ()):
        yield from changer(spot)
    fix = finding.rule.fix if finding else None
    if finding and fix and (edits := FIXES[code](spot.module, finding)):
        what = f"{finding.help[:1].upper()}{finding.help[1:]}"
        yield Candidate(what, "" if fix.is_safe else fix.what, edits)


def _is_better(before: Compilation, after: Compilation, gone: Lines, new: Lines) -> bool:
    """Return whether a change has no new error or warning, and leaves no other code uncut.

    In the lines of the region itself, smaller regions may take its place.
    """
    had, has = _counted(before, gone), _counted(after, new)
    return all(has[code] <= had[code] for code in has)


def _counted(made: Compilation, lines: Lines) -> Counter[str]:
    """Return the number of findings that matter to a cut, without notes in some lines."""
    within = {
        (region.rule.code, source.span(region.at))
        for name, (region, source) in made.regions.items()
        if is_reached(made.plan.block(name), made.plan, lines)
    }
    return Counter(
        finding.code
        for finding in made.diagnostics
        if finding.severity != "note"
        or (finding.code.startswith("KIT3") and (finding.code, finding.span) not in within)
        or finding.code in CHECKED_BY_NOTE
    )


def is_reached(block: Block, plan: Plan, lines: Lines) -> bool:
    """Return whether a block is in some lines, or in a helper that they call."""
    inlined = {one.name: one for one in plan.activations}
    name, file, line = block.activation, block.span.file, block.span.line
    while not (file == lines[0] and line in lines[1]):
        if not name:
            return False
        called = inlined[name]
        name, line = called.caller, called.call[0]
        file = inlined[name].file if name else plan.file
    return True


def _count(made: Compilation, code: str) -> int:
    return sum(finding.code == code for finding in made.diagnostics)


def _own_steps(made: Compilation) -> int:
    """Return the number of calls that are a step, or the nodes of a fan-out, on their own."""
    noted = {(finding.code, finding.span) for finding in made.diagnostics}
    uncut = {
        name
        for name, (region, source) in made.regions.items()
        if (region.rule.code, source.span(region.at)) in noted
    }
    # A step has the name of the block that it starts for.
    started = {step.name for step in made.plan.steps} - uncut
    kinds = ("checkpoint", "llm", "region")
    alone = [b for b in made.plan.blocks if b.name in started and b.kind in kinds]
    return len(alone) + sum(bool(step.per_item) for step in made.plan.steps)


def _lines_after(before: str, after: str, span: Span) -> range:
    """Return the lines of `after` that the lines of a span became."""
    old, new = before.split("\n"), after.split("\n")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    first = span.line - 1
    inserted = sum(
        (new_end - new_start) - (end - start)
        for tag, start, end, new_start, new_end in matcher.get_opcodes()
        if tag != "equal" and (end < first or start < end == first)
    )
    return range(span.line + inserted, len(new) - (len(old) - span.end_line) + 1)
