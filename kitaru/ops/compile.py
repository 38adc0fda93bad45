"""Compile a flow for a target: first a draft with its findings, then the build directory."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.config import setting
from kitaru.errors import FlowError, KitaruError, UsageError
from kitaru.ops import build_cache
from kitaru.ops.commit import commit_of
from kitaru.ops.flow_ref import Location, locate
from kitaru.wire import disk
from kitaru.wire.structs import fields_of
from kitaru.wire.structs import replace as replaced

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
    """The flow to compile, and the options.

    `store` is the URL in the document, empty if the submitter sets it. `rehearses` is set for a dry
    run, which is started by hand: its document contains no schedule.
    """

    flow: Location
    target: str
    directory: Path
    granularity: Granularity = "checkpoint"
    image: str | None = None
    delivery: str = "store"
    strict: bool = False
    store: str = ""
    rehearses: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A compilation for a target that has not been written yet."""

    compilation: Compilation
    target: Target
    location: Location
    findings: tuple[Diagnostic, ...]
    sources: dict[str, str]


@dataclass(frozen=True)
class Compiled:
    """A compilation and its build directory.

    `data` contains the reason for each file bundled with the modules. `starts` is the start-up time
    of a run, from the target's own table. `written` is the build if this process created it.
    """

    plan: Plan
    findings: tuple[Diagnostic, ...]
    target_name: str
    directory: Path
    document: Path
    starts: Starts
    data: Mapping[str, str]
    written: Build | None = None

    @cached_property
    def target(self) -> Target:
        """The target of the compilation."""
        from kitaru_targets import registry

        return registry.get(self.target_name)

    @cached_property
    def build(self) -> Build:
        """The build in the directory. Raises the errors of `kitaru_targets.build.read`."""
        from kitaru_targets import build

        return self.written or build.read(self.directory)


def compiled_as(
    build: Build, plan: Plan, findings: tuple[Diagnostic, ...], data: Mapping[str, str]
) -> Compiled:
    """Return the compilation that wrote a build."""
    from kitaru_compiler.cut.latency import starts

    found = starts(plan, build.target.profile)
    if build.target.starts:
        steps, idle = build.target.starts(plan)
        low, high = build.target.profile.start_seconds
        found = replaced(found, steps=steps, seconds=(steps * low, steps * high), idle=idle)
    return Compiled(
        plan, findings, build.target.name, build.directory, build.document, found, data, build
    )


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
    rehearses: bool = False,
) -> Request:
    """Build a compile request from arguments, with settings for those that are not passed.

    Args:
        flow: a flow reference, in the form that `locate` accepts.
        target: the name of a target; default as configured, else `default`.
        store: the store in the document; default the configured store, unless it is on this
            machine.
        rehearses: whether the build is for a dry run, which needs no schedule.

    Raises:
        UsageError: the file or module does not exist, or no target is set.
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
        rehearses,
    )


def compile(request: Request, report: Report | None = None) -> Compiled:
    """Compile a flow for a target, and write the build directory.

    Args:
        report: called with the findings before anything is written.

    Raises:
        UsageError: the target is unknown, or the build cannot be written.
        SourceError: the source has errors.
        FlowError: `strict` is set and there are findings; nothing was written.

    Example:
        compile(Request(locate("review.py"), "vertex", Path("build"))).build.directory
    """
    with uncollected():
        made = _Cached(request)
        report_drafts([made], request, report)
        return made.write()


def compile_all(
    request: Request, report: Report | None = None
) -> tuple[list[Compiled], dict[str, KitaruError]]:
    """Compile for every target; return the compilations, and the error of each refused target.

    A finding of several targets is reported once. Raises the errors of `compile` if they concern
    all targets.
    """
    from kitaru_targets import registry

    every = [_Cached(replace(request, target=name)) for name in registry.names()]
    report_drafts(every, request, report)
    written, refused = [], {}
    for each in every:
        try:
            written.append(each.write())
        except KitaruError as error:
            refused[each.request.target] = error
    if not written:
        raise next(iter(refused.values()))
    return written, refused


class _Cached:
    """A compilation that is cached, for an unchanged source, or made now and then cached."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._key = build_cache.key("compile", repr(request))
        self._stored = build_cache.load(self._key)
        if self._stored is not None and _commit(self._stored) != self._stored.values["commit"]:
            # A commit does not change the sources, but the header of the document.
            self._stored = None
        if self._stored is not None:
            self.findings = build_cache.findings_of(self._stored)
            self.sources: dict[str, str] = self._stored.values["sources"]
            return
        with disk.recorded() as self._answers:
            self._draft = compile_draft(request)
        self.findings, self.sources = self._draft.findings, self._draft.sources

    def write(self) -> Compiled:
        """Write the build directory."""
        if self._stored is not None:
            return _write_stored(self._stored, self.findings, self.request)
        with disk.recorded(self._answers):
            written = write_draft(self._draft, self.request)
        self._store(written)
        return written

    def _store(self, written: Compiled) -> None:
        from kitaru_targets import registry

        # The files that a target of another distribution reads are unknown.
        if self._key and registry.is_own(written.target_name):
            # Do not use the files of the directory, which another process may have replaced.
            files = dict(written.build.contents)
            values = {
                # Omit line breaks, which would take more time than the plan itself.
                "plan": json.dumps(fields_of(written.plan), default=fields_of),
                "document": written.document.name,
                "commit": commit_of(
                    self._draft.compilation.base, self._draft.compilation.travel.files
                ),
                "base": str(self._draft.compilation.base),
                "travel": sorted(self._draft.compilation.travel.files),
                "starts": fields_of(written.starts),
                "data": dict(written.data),
                **build_cache.with_findings(self.findings, self.sources),
            }
            build_cache.store(self._key, self._answers, build_cache.Stored(values, files))


def _write_stored(
    stored: build_cache.Stored, findings: tuple[Diagnostic, ...], request: Request
) -> Compiled:
    """Write the files of a cached compilation without importing the compiler or a target."""
    from kitaru_compiler.cut.latency import Starts
    from kitaru_targets import build_directory, build_secrets

    from kitaru.wire.plan import Plan

    # Meanwhile another secret may have been stored on this machine.
    build_secrets.check_files(stored.files)
    values = stored.values
    plan = Plan.from_json(values["plan"])
    directory = _directory(request, plan, request.target)
    build_directory.replace(directory, stored.files)
    starts = Starts(**{name: _pair(value) for name, value in values["starts"].items()})
    document = directory / values["document"]
    return Compiled(plan, findings, request.target, directory, document, starts, values["data"])


def _commit(stored: build_cache.Stored) -> str:
    """Return the commit of the sources of a cached compilation now."""
    base = Path(stored.values["base"])
    # These files have not changed, so their present content is the compiled one.
    return commit_of(base, {name: (base / name).read_bytes() for name in stored.values["travel"]})


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _directory(request: Request, plan: Plan, target: str) -> Path:
    return request.directory / plan.flow / target


def report_drafts(
    drafts: Sequence[Draft | _Cached], request: Request, report: Report | None
) -> None:
    """Report each finding once; raise FlowError if `strict` is set and there are findings."""
    from kitaru.ops.findings import is_fatal

    found = [finding for draft in drafts for finding in draft.findings]
    findings = tuple(one for place, one in enumerate(found) if one not in found[:place])
    if report is not None:
        report(findings, {k: text for draft in drafts for k, text in draft.sources.items()})
    if is_fatal(findings, strict=request.strict):
        codes = ", ".join(sorted({d.code for d in findings if not d.silenced}))
        raise FlowError(f"--strict: the source has findings ({codes}), nothing was written.")


def checkpoints(plan: Plan) -> list[str]:
    """Return the durable calls of a plan that do work, in source order and without duplicates."""
    working = (block for block in plan.blocks if block.kind not in ("wait", "log"))
    calls = (call for block in working for call in block.calls)
    others = {agent.name for agent in plan.agents} | ({"wait"} if plan.agents else set())
    found = dict.fromkeys(call for call in calls if not call.startswith("memory."))
    return [call for call in found if call not in others]


def compile_draft(request: Request) -> Draft:
    """Compile a flow; raise SourceError for errors in the source, UsageError for a bad target."""
    from kitaru_compiler import compile_flow
    from kitaru_targets import registry

    from kitaru.ops.findings import from_here, named_from_here
    from kitaru.runtime.secrets import register_local
    from kitaru.wire import structs

    target, location = registry.get(request.target), request.flow
    with uncollected(), named_from_here(location):
        compilation = compile_flow(
            location.path,
            location.flow,
            granularity=request.granularity,
            profile=target.profile,
            module=location.module,
        )
    schedule = compilation.plan.schedule
    if request.rehearses and schedule is not None and schedule.by == "target":
        compilation = structs.replace(compilation, plan=compilation.plan.replace(schedule=None))
    # Findings quote settings, and are shown before a build with secrets in it is refused.
    register_local(compilation.plan)
    found = from_here(compilation.diagnostics, compilation.sources, compilation.base)
    return Draft(compilation, target, location, *found)


def write_draft(draft: Draft, request: Request) -> Compiled:
    """Write the build directory. Raises the errors of `kitaru_targets.build.write`."""
    from kitaru_compiler.diagnostics.model import SourceError
    from kitaru_targets import build, registry

    from kitaru.ops.findings import from_here

    compilation, target, location = draft.compilation, draft.target, draft.location
    named = compilation.plan.image or None
    start = location.path.parent
    image = setting("image", argument=request.image, decorator=named, start=start).value
    folder = _directory(request, compilation.plan, target.name)
    try:
        with uncollected():
            written = build.write(
                compilation,
                target,
                folder,
                image=image,
                # A version for the target `local` is stored in the store that it runs from.
                store="" if target.name == registry.LOCAL else request.store,
                delivery=request.delivery,
                base_image=setting("base_image", start=start).value or "",
                require_hashes=setting("require_hashes", start=start).value,
                commit=commit_of(compilation.base, compilation.travel.files),
            )
    except SourceError as error:
        found = from_here(error.diagnostics, draft.sources, compilation.base)
        raise SourceError(*found) from None
    return compiled_as(written, compilation.plan, draft.findings, compilation.travel.reasons)


def store_in_document(store: str | None) -> str:
    """Return the store in a document, empty if the submitter sets it.

    A file on this machine, which containers cannot reach, is used only if the caller requests it:
    an orchestrator on this machine may reach it.
    """
    found = setting("store", argument=store)
    is_wanted = found.origin == "argument" or not _is_of_this_machine(str(found.value))
    return str(found.value) if is_wanted else ""


def local_store(store: str | None, target: str) -> tuple[str, str] | None:
    """Return a warning and a remedy if a pipeline's containers cannot reach the store, else None.

    `target` is the name of a target or `all`.
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
    """Disable the cyclic garbage collector: a compilation keeps nearly all its objects."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            # Move all objects into the oldest generation. Otherwise they would be the youngest, and
            # the next allocation would search them all.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
