"""Compile a flow for a target: first a draft with its findings, then the build directory."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.config import setting
from kitaru.errors import FlowError, KitaruError, UsageError
from kitaru.ops.flow_ref import Location, locate

if TYPE_CHECKING:
    from kitaru_compiler import Compilation
    from kitaru_compiler.cut.latency import Starts
    from kitaru_compiler.diagnostics.model import Diagnostic
    from kitaru_targets.base import Target
    from kitaru_targets.build import Build

    from kitaru.ops.findings import Report
    from kitaru.wire.plan import Granularity, Plan


@dataclass(frozen=True, slots=True)
class Request:
    """What to compile, and how.

    `store` is the URL that the document names, empty where the submitter names it.
    """

    flow: Location
    target: str
    directory: Path
    granularity: Granularity = "checkpoint"
    image: str | None = None
    delivery: str = "store"
    strict: bool = False
    store: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A compilation for a target, of which nothing is written yet."""

    compilation: Compilation
    target: Target
    location: Location
    findings: tuple[Diagnostic, ...]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compilation and the directory it was written to.

    `data` says of each file that travels beside the modules why it does.
    """

    plan: Plan
    findings: tuple[Diagnostic, ...]
    target: Target
    build: Build
    data: Mapping[str, str]

    @property
    def starts(self) -> Starts:
        """What a run of it waits for, by the target's own table."""
        from kitaru_compiler.cut.latency import starts

        return starts(self.plan, self.target.profile)


def request(
    flow: str,
    target: str | None,
    directory: str | Path,
    *,
    default: str | None = None,
    granularity: Granularity = "checkpoint",
    image: str | None = None,
    delivery: str = "store",
    strict: bool = False,
    store: str | None = None,
) -> Request:
    """Return what a caller asks to be compiled, with the settings for what it leaves out.

    Args:
        flow: as `locate` takes it.
        target: the name of a target; default as configured, else `default`.
        store: the store that the document names; default the configured one, unless it is on this
            machine.

    Raises:
        UsageError: there is no such file or module, or no target is named.
    """
    named = setting("target", argument=target).value or default
    if named is None:
        raise UsageError("No target is named.", help="See: kitaru target list")
    return Request(
        locate(flow),
        str(named),
        Path(directory),
        granularity,
        image,
        delivery,
        strict,
        store_in_document(store),
    )


def compile(request: Request, report: Report | None = None) -> Compiled:
    """Compile a flow for a target, and write the build directory.

    Args:
        report: is called with the findings before anything is written.

    Raises:
        UsageError: the target is unknown, or the build cannot be written.
        SourceError: the source has errors.
        FlowError: `strict`, and there are findings; nothing was written.

    Example:
        compile(Request(locate("review.py"), "vertex", Path("build"))).build.directory
    """
    with uncollected():
        draft = compile_draft(request)
        report_drafts([draft], request, report)
        return write_draft(draft, request)


def compile_all(
    request: Request, report: Report | None = None
) -> tuple[list[Compiled], dict[str, KitaruError]]:
    """Compile for every target; return what was written, and by target why it was refused.

    A finding that holds for several targets is reported once. Raises what `compile` does where it
    holds for every target.
    """
    from kitaru_targets import registry

    requests = [replace(request, target=name) for name in registry.names()]
    drafts = [compile_draft(each) for each in requests]
    report_drafts(drafts, request, report)
    written, refused = [], {}
    for draft, each in zip(drafts, requests, strict=True):
        try:
            written.append(write_draft(draft, each))
        except KitaruError as error:
            refused[each.target] = error
    if not written:
        raise next(iter(refused.values()))
    return written, refused


def report_drafts(drafts: list[Draft], request: Request, report: Report | None) -> None:
    """Report each finding once; raise FlowError where `strict` and there is any."""
    from kitaru.ops.findings import is_fatal

    found = [finding for draft in drafts for finding in draft.findings]
    findings = tuple(one for place, one in enumerate(found) if one not in found[:place])
    if report is not None:
        report(findings, drafts[0].sources)
    if is_fatal(findings, strict=request.strict):
        codes = ", ".join(sorted({d.code for d in findings if not d.silenced}))
        raise FlowError(f"--strict: the source has findings ({codes}), nothing was written.")


def checkpoints(plan: Plan) -> list[str]:
    """Return the durable calls of a plan that do work, in source order, each once."""
    working = (block for block in plan.blocks if block.kind not in ("wait", "log"))
    calls = (call for block in working for call in block.calls)
    return list(dict.fromkeys(call for call in calls if not call.startswith("memory.")))


def compile_draft(request: Request) -> Draft:
    """Compile a flow; raise SourceError when the source has errors, UsageError on a bad target."""
    from kitaru_compiler import compile_flow
    from kitaru_targets import registry

    from kitaru.ops.findings import from_here, named_from_here

    target, location = registry.get(request.target), request.flow
    with uncollected(), named_from_here(location):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity="single" if target.runs_whole else request.granularity,
            profile=target.profile,
            module=location.module,
        )
    found = from_here(compilation.diagnostics, compilation.sources, location)
    return Draft(compilation, target, location, *found)


def write_draft(draft: Draft, request: Request) -> Compiled:
    """Write the build directory; raises what `kitaru_targets.build.write` does."""
    from kitaru_compiler.diagnostics.model import SourceError
    from kitaru_targets import build

    from kitaru.ops.findings import from_here

    compilation, target, location = draft.compilation, draft.target, draft.location
    named = compilation.plan.image or None
    image = setting(
        "image", argument=request.image, decorator=named, start=location.path.parent
    ).value
    folder = request.directory / compilation.plan.flow / target.name
    try:
        with uncollected():
            written = build.write(
                compilation,
                target,
                folder,
                image=image,
                # A version of the target `local` is in the store that it runs from.
                store="" if target.runs_whole else request.store,
                delivery=request.delivery,
            )
    except SourceError as error:
        raise SourceError(*from_here(error.diagnostics, draft.sources, location)) from None
    return Compiled(compilation.plan, draft.findings, target, written, compilation.travel.reasons)


def store_in_document(store: str | None) -> str:
    """Return the store that a document names, empty where the person who submits it names one.

    A file of this machine, which no container can reach, is named only when the caller asks for it:
    an orchestrator on this machine may reach it.
    """
    found = setting("store", argument=store)
    is_wanted = found.origin == "argument" or not _is_of_this_machine(str(found.value))
    return str(found.value) if is_wanted else ""


def local_store(store: str | None, target: str) -> tuple[str, str] | None:
    """Return the warning and the remedy where a pipeline's containers cannot reach the store.

    `target` is a target's name or `all`. None where they may reach it.
    """
    found = setting("store", argument=store)
    if target == "local" or not _is_of_this_machine(str(found.value)):
        return None
    place = _BUCKETS.get(target, "s3://BUCKET/PREFIX")
    origin = "" if found.origin == "argument" else f" ({found.origin})"
    return (
        f"The store {found.value}{origin} is on this machine: containers cannot reach it.",
        f'Set store = "{place}" in [tool.kitaru] of pyproject.toml, or pass --store {place}.',
    )


_BUCKETS = {"vertex": "gs://BUCKET/PREFIX", "azureml": "az://CONTAINER/PREFIX"}


def _is_of_this_machine(url: str) -> bool:
    return url.startswith(("sqlite:", "memory:"))


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no cycles meanwhile: a compilation keeps nearly all that it makes until its end."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
