"""Decides how the commands that compile do it, and how they show what came out."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.cli.locate import Location, locate
from kitaru.cli.output import Output, label, show_findings
from kitaru.config import setting
from kitaru.errors import FlowError, KitaruError

if TYPE_CHECKING:
    from kitaru_compiler import Compilation
    from kitaru_compiler.cut.starts import Starts
    from kitaru_compiler.diagnostics.model import Diagnostic
    from kitaru_targets.base import Target
    from kitaru_targets.build import Build

    from kitaru.wire.plan import Granularity, LayoutItem, Plan, Span


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked to compile, and how."""

    flow: str
    target: str
    directory: Path
    granularity: Granularity
    image: str | None
    delivery: str
    strict: bool
    store: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compilation and the directory it was written to."""

    plan: Plan
    findings: tuple[Diagnostic, ...]
    target: Target
    build: Build

    @property
    def starts(self) -> Starts:
        """What a run of it waits for, by the target's own table."""
        from kitaru_compiler.cut.starts import starts

        return starts(self.plan, self.target.profile)


def store_in_document(store: str | None) -> str:
    """Return the store that a document names, empty where whoever submits it has to.

    The default store is a file on this machine, which no container can reach.
    """
    found = setting("store", argument=store)
    return "" if found.origin == "default" else str(found.value)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no cycles meanwhile: a compilation keeps nearly all that it makes until its end."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def compile_and_write(request: Request, output: Output, form: str = "text") -> Compiled:
    """Compile, show the findings in `form`, a `--format`; write the build directory.

    Raises UsageError for an unknown target, SourceError when the source has errors, FlowError when
    `strict` and there are any findings; nothing is written then.
    """
    draft = _compiled(request)
    _show_findings([draft], request, output, form)
    return _written(draft, request)


def compile_for_all(
    request: Request, output: Output, form: str = "text"
) -> tuple[list[Compiled], dict[str, KitaruError]]:
    """Compile for every target; return what was written, and by target why something was not.

    What holds for several targets is shown once. Raises what `compile_and_write` does when it is
    true of every target.
    """
    from kitaru_targets import registry

    requests = [replace(request, target=name) for name in registry.names()]
    drafts = [_compiled(each) for each in requests]
    _show_findings(drafts, request, output, form)
    written, refused = [], {}
    for draft, each in zip(drafts, requests, strict=True):
        try:
            written.append(_written(draft, each))
        except KitaruError as error:
            refused[each.target] = error
    if not written:
        raise next(iter(refused.values()))
    return written, refused


@dataclass(frozen=True, slots=True)
class _Draft:
    """A compilation for a target that nothing is written of yet."""

    compilation: Compilation
    target: Target
    location: Location
    findings: tuple[Diagnostic, ...]
    sources: dict[str, str]


def _compiled(request: Request) -> _Draft:
    from kitaru_compiler import compile_flow
    from kitaru_targets import registry

    from kitaru.cli.findings import from_here, named_from_here

    target = registry.get(request.target)
    location = locate(request.flow)
    with named_from_here(location.path):
        compilation = compile_flow(
            location.path, location.flow, granularity=request.granularity, profile=target.profile
        )
    found = from_here(compilation.diagnostics, compilation.sources, location.path)
    return _Draft(compilation, target, location, *found)


def _show_findings(drafts: list[_Draft], request: Request, output: Output, form: str) -> None:
    found = [finding for draft in drafts for finding in draft.findings]
    findings = tuple(one for place, one in enumerate(found) if one not in found[:place])
    show_findings(findings, drafts[0].sources, output, form)
    if is_fatal(findings, strict=request.strict):
        codes = ", ".join(sorted({d.code for d in findings if not d.silenced}))
        raise FlowError(f"--strict: the source has findings ({codes}), nothing was written.")


def _written(draft: _Draft, request: Request) -> Compiled:
    from kitaru_compiler.diagnostics.model import SourceError
    from kitaru_targets import build

    from kitaru.cli.findings import from_here

    compilation, target, start = draft.compilation, draft.target, draft.location.path
    named = compilation.plan.image or None
    image = setting("image", argument=request.image, decorator=named, start=start.parent).value
    folder = request.directory / compilation.plan.flow / target.name
    try:
        written = build.write(
            compilation, target, folder, image=image, store=request.store, delivery=request.delivery
        )
    except SourceError as error:
        raise SourceError(*from_here(error.diagnostics, draft.sources, start)) from None
    return Compiled(compilation.plan, draft.findings, target, written)


def is_fatal(diagnostics: Iterable[Diagnostic], *, strict: bool) -> bool:
    """Say whether the findings end the command with 1."""
    return any(not d.silenced and (strict or d.severity == "error") for d in diagnostics)


def to_json(compiled: Compiled) -> dict[str, Any]:
    """Return a compilation as the command line's JSON."""
    from kitaru_compiler.diagnostics.render import in_order
    from kitaru_compiler.diagnostics.render import to_json as finding

    return {
        "flow": compiled.plan.flow,
        "target": compiled.target.name,
        "directory": str(compiled.build.directory),
        "document": str(compiled.build.document),
        "steps": [step.name for step in compiled.plan.steps],
        "checkpoints": checkpoints(compiled.plan),
        "starts": asdict(compiled.starts),
        "diagnostics": [finding(d) for d in in_order(compiled.findings)],
    }


def checkpoints(plan: Plan) -> list[str]:
    """Return the durable calls that do work, in source order, each once."""
    working = (block for block in plan.blocks if block.kind not in ("wait", "log"))
    calls = (call for block in working for call in block.calls)
    return list(dict.fromkeys(call for call in calls if not call.startswith("memory.")))


def show(compiled: Compiled, output: Output) -> None:
    """Write the pipeline's outline and where its files are."""
    plan, build = compiled.plan, compiled.build
    output.say(f"{label(plan.flow, 'green')} for {compiled.target.name}: {_counts(plan)}")
    rows = list(_rows(plan, plan.layout, 1))
    width = max((len(name) for name, _ in rows), default=0)
    for name, place in rows:
        output.say(f"{name:<{width}}  {place}")
    output.say(f"\nwrote {build.directory}/")
    output.say(f"starts   {_starts(compiled.starts)}")


def _starts(found: Starts) -> str:
    from kitaru_compiler.cut.starts import shown

    steps = "1 container" if found.steps == 1 else f"{found.steps} containers in a row"
    taken, otherwise = shown(found.seconds), shown(found.seconds_of_calls)
    if found.calls == found.steps:
        return f"{steps}, about {taken}"
    instead = f" instead of {otherwise}" if otherwise != taken else ""
    return f"{found.calls} calls → {steps}, about {taken}{instead}"


def example_inputs(plan: Plan) -> str:
    """Return the options that give every required input of a flow, to show in a command."""
    names = (parameter.name for parameter in plan.parameters if parameter.required)
    return "".join(f" --input {name}=…" for name in names)


def _counts(plan: Plan) -> str:
    waits = sum(block.kind == "wait" for block in plan.blocks)
    counts = [(len(plan.steps), "step"), (len(checkpoints(plan)), "checkpoint"), (waits, "wait")]
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts if n)


def _rows(plan: Plan, layout: Iterable[LayoutItem], depth: int) -> Iterator[tuple[str, str]]:
    from kitaru.wire.plan import BranchItem, FanItem, StepItem

    indent = "  " * depth
    for item in layout:
        if isinstance(item, StepItem):
            yield f"{indent}{item.step}", _place(plan.step(item.step).span)
        elif isinstance(item, FanItem):
            yield f"{indent}{item.fan} × calls", _place(plan.step(item.fan).span)
        elif isinstance(item, BranchItem):
            for number, arm in enumerate(item.arms):
                if arm:
                    yield f"{indent}{'if' if number == 0 else 'else'}", _place(item.span)
                    yield from _rows(plan, arm, depth + 1)
        else:
            yield f"{indent}wait {item.block}", _place(plan.block(item.block).span)


def _place(span: Span) -> str:
    return f"{span.file}:{span.line}"
