"""Compile a flow from its source to a plan, code and findings, without running it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kitaru.config import compiled_settings, setting
from kitaru.errors import UsageError
from kitaru.settings import CARRIED, KINDS
from kitaru.version import VERSION
from kitaru.wire.models import is_direct, reached
from kitaru.wire.plan import Granularity, Plan, PlannedOverride, Span
from kitaru.wire.structs import Struct
from kitaru_compiler.cut.layout import Joined
from kitaru_compiler.cut.plan import Cut, cut
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.diagnostics.faults import describe_fault, findings_of
from kitaru_compiler.diagnostics.model import Diagnostic, SourceError
from kitaru_compiler.diagnostics.rules.cutting import TASKS_STAY_TOGETHER
from kitaru_compiler.diagnostics.rules.source import SOURCE_TOO_LARGE
from kitaru_compiler.frontend.asked_models import asked_models
from kitaru_compiler.frontend.calls import Calls
from kitaru_compiler.frontend.events import events_of
from kitaru_compiler.frontend.flows import (
    FlowDefinition,
    check_definition,
    every_checkpoint,
    find_flows,
    literal_of,
    parameters,
    select_flow,
)
from kitaru_compiler.frontend.images import about_images
from kitaru_compiler.frontend.limits import limits_of
from kitaru_compiler.frontend.lock_files import Locked
from kitaru_compiler.frontend.lower import bare, lower
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.project import Project, base_of, open_project
from kitaru_compiler.frontend.requirements import requirement_texts, requirements
from kitaru_compiler.frontend.schedules import schedule_of
from kitaru_compiler.frontend.schemas import with_validator
from kitaru_compiler.frontend.source import MAX_DEPTH, Source, refused
from kitaru_compiler.frontend.suppressions import ignores, silence, without_effect
from kitaru_compiler.frontend.travel import Travel, travel
from kitaru_compiler.ir.nodes import FlowIR, Region
from kitaru_compiler.lint import advise, advised
from kitaru_compiler.lint.binding import misused_api
from kitaru_compiler.lint.modules import hidden_order, late_codecs, taken_names
from kitaru_compiler.lint.secrets import masked, secrets
from kitaru_compiler.lint.starts import starts_at_import
from kitaru_compiler.lint.uncrossable import crossing
from kitaru_compiler.passes import normalise
from kitaru_compiler.passes.binding import Why
from kitaru_compiler.passes.inline import inline
from kitaru_compiler.passes.local_functions import LocalFunctionStays, stay
from kitaru_compiler.passes.uncuttable import unexpected

# The profile of `check`, which belongs to no target, so that its notes apply to every target.
ANY_TARGET = Profile("any", True, "native", "suspended", 90, (0, 0), retry_pauses=True, fan_out=100)


class Compilation(Struct):
    """One flow compiled for one target.

    `steps_py` is the text of the generated blocks. `sources` contains the text of each project file
    by its path relative to `base`. `travel` are the files for the bundle. `locked` contains the
    data of the project's lock files and requirement lists about the distributions that containers
    install. `regions` and `joined` are the code that is not cut, by block: see `Cut`.
    """

    plan: Plan
    steps_py: str
    diagnostics: tuple[Diagnostic, ...]
    sources: dict[str, str]
    travel: Travel
    locked: tuple[Locked, ...]
    base: Path
    regions: Mapping[str, tuple[Region, Source]]
    joined: Mapping[str, Joined]


class Checked(NamedTuple):
    """The result of a check.

    `findings` and `sources` (the texts of the project files) name files relative to `base`. `data`
    contains the reason for each file that would be bundled with the modules. It is empty if the
    source has errors.
    """

    findings: tuple[Diagnostic, ...]
    sources: dict[str, str]
    base: Path
    data: dict[str, str]


def compile_flow(
    path: Path,
    flow: str | None = None,
    *,
    granularity: Granularity = "checkpoint",
    profile: Profile = ANY_TARGET,
    module: str = "",
    unsaved: Mapping[Path, str] | None = None,
) -> Compilation:
    """Compile the flow called `flow`, or the only flow, in the file at `path`.

    `module` is the dotted name under which the file is imported, if the user passed one. It
    identifies packages without an `__init__.py`.

    The file is never imported or run. Raises UsageError if the file cannot be read, and SourceError
    with all findings if the source has errors.

        compile_flow(Path("flow.py"), profile=get("vertex").profile).plan.steps
    """
    if profile.is_whole:
        granularity = "single"
    with _room_for_deep_source(path):
        project, names, source = _open(path, module, unsaved)
        chosen, problems = select_flow(source, names, flow)
        if chosen is None:
            raise SourceError(tuple(problems), {source.file: source.text})
        retries = setting("retries", start=path.parent).value
        calls = Calls(names, source.module, retries)
        found = _analyse(chosen, calls)
        _stop_on_errors(found, project)
        settings = compiled_settings(path.parent, chosen.option("stack"))
        table = settings.get(profile.name, {})
        options = {name: table[name] for name in sorted(table) if name != "overrides"}
        result = cut(_normal_form(chosen, calls), granularity, profile.with_options(options))
        found += _about_crossing(chosen, names, result)
        packed = travel(project, source)
        found += packed.findings
        _stop_on_errors(found, project)
        needed = requirements(project, source, settings)
        asked, about_models = _asked(names, source, settings, needed.pins)
        image = _image(chosen)
        images, image_texts = about_images(chosen, image, project, settings)
        limits, events = limits_of(chosen, names), events_of(chosen, names)
        names.store()
        plan = Plan(
            flow=chosen.name,
            module=source.module,
            file=source.file,
            line=chosen.definition.lineno,
            doc=ast.get_docstring(chosen.definition) or "",
            kitaru=VERSION,
            granularity=granularity,
            parameters=parameters(chosen.definition),
            blocks=result.blocks,
            steps=result.steps,
            layout=result.layout,
            positions=result.generated.positions,
            activations=result.activations,
            models=dict(sorted(settings.get("models", {}).items())),
            asked=asked,
            settings={name: settings[name] for name in CARRIED if name in settings},
            requirements=with_validator(needed.pins, names, source.module),
            environment=dict(sorted(settings.get("environment", {}).items())),
            retries=retries,
            max_parallel=setting(
                "max_parallel", decorator=chosen.option("max_parallel"), start=path.parent
            ).value,
            pickles=result.pickles,
            agents=result.agents,
            codecs=tuple(n for n in project.closure(source.module).codecs if n != source.module),
            secrets=dict(sorted(settings.get("secrets", {}).items())),
            image=image,
            options=options,
            schedule=schedule_of(chosen),
            limits=limits.to_json() if limits is not None else {},
            overrides=_overrides(table.get("overrides", ()), chosen.name),
            events=events.to_json() if events is not None else {},
        )
    texts = _texts(project) | requirement_texts(project, settings) | image_texts
    notes = [note for note in result.notes if granularity != "single" or not _is_of_cuts(note)]
    findings = _finished([*found, *notes, *needed.findings, *about_models, *images], texts)
    return Compilation(
        plan, result.generated.text, findings, texts, packed, needed.locked, project.base,
        result.regions, result.joined,
    )  # fmt: skip


def _overrides(given: Sequence[dict[str, Any]], flow: str) -> tuple[PlannedOverride, ...]:
    """Return the overrides of a flow: its own, and those of every flow."""
    return tuple(
        PlannedOverride(one.get("at", ""), tuple(one["patch"]), one.get("file", ""))
        for one in given
        if one.get("flow", flow) == flow
    )


def _is_of_cuts(note: Diagnostic) -> bool:
    """Return whether a note is about uncut code, which is irrelevant in a single step."""
    return "KIT310" <= note.code < "KIT325" or note.code == TASKS_STAY_TOGETHER.code


def _asked(
    names: Names, source: Source, settings: dict[str, Any], pins: Sequence[str]
) -> tuple[tuple[str, ...], Sequence[Diagnostic]]:
    """Return the models named in the code, and notes on calls whose library may be missing."""
    named: list[str] = []

    def find() -> Iterable[Diagnostic]:
        found = asked_models(names, source.module)
        named.extend(found.names)
        return found.open

    notes = findings_of("asked_models", source.span(source.tree), find)
    default = settings.get("environment", {}).get("KITARU_DEFAULT_MODEL")
    default = default or settings.get("default_model", KINDS["default_model"].default)
    asked = tuple(sorted({name or default for name in named}))
    aliases = settings.get("models", {})
    # litellm supports every model.
    has_litellm = any(re.match(r"litellm\b", pin, re.IGNORECASE) for pin in pins)
    has_litellm |= not all(map(is_direct, reached([*aliases, *asked], aliases)))
    return asked, () if has_litellm else notes


def _image(flow: FlowDefinition) -> str:
    """Return the decorator's image, empty without one; raise UsageError for a non-string."""
    said = next((option.value for option in flow.options if option.arg == "image"), None)
    match said:
        case ast.Call(func=ast.Name(id="ImageSettings") | ast.Attribute(attr="ImageSettings")):
            described = {k.arg: k.value for k in said.keywords}
            said = described.pop("base_image", None)
            if described or said is None:
                raise _no_image(flow, flow.definition.lineno)
    is_literal, image = literal_of(said)
    if said is None or (is_literal and image is None):
        return ""
    if isinstance(image, str):
        return image
    raise _no_image(flow, said.lineno)


def _no_image(flow: FlowDefinition, line: int) -> UsageError:
    return UsageError(
        f"{flow.source.file}:{line}: the image of @flow is not written out as a string.",
        help="Compiling runs no code: write the reference out, or set `image`, `requirements` and "
        "`environment` in [tool.kitaru] of pyproject.toml.",
    )


def check(
    path: Path,
    flow: str | None = None,
    module: str = "",
    unsaved: Mapping[Path, str] | None = None,
) -> Checked:
    """Return every finding in the file's flows (or in `flow` alone), and the sources they name.

    Comments that suppress nothing are findings, too: only here all flows of the file are known.
    `unsaved` contains texts that replace those of files, by resolved path. Raises UsageError if the
    file cannot be read. Errors in the source are returned as findings.
    """
    try:
        with _room_for_deep_source(path):
            project, names, source = _open(path, module, unsaved)
            flows = find_flows(source, names)
            if flow or not flows:
                chosen, problems = select_flow(source, names, flow)
                flows = [chosen] if chosen else []
            else:
                problems = []
            if not flows:
                # The cause may be a misspelled `flow`.
                problems += misused_api(names, source.module)
            for one in flows:
                calls = Calls(names, source.module)
                found = _analyse(one, calls)
                problems += found
                if not any(d.severity == "error" for d in found):
                    result = cut(_normal_form(one, calls), "checkpoint", ANY_TARGET)
                    problems += [*result.notes, *_about_crossing(one, names, result)]
            texts = _texts(project)
            data = _reasons(project, source)
            if flows:
                settings = compiled_settings(path.parent)
                needed = requirements(project, source, settings)
                problems += [*needed.findings, *_asked(names, source, settings, needed.pins)[1]]
                problems += travel(project, source).findings
                texts |= requirement_texts(project, settings)
            for one in flows:
                images, image_texts = about_images(one, _image(one), project, settings)
                problems += [image for image in images if image not in problems]
                texts |= image_texts
            parts = [part for one in flows for part in advised(one, names)]
            names.store()
            shown = masked(texts, problems)
            return Checked(_finished(problems, texts, parts), shown, project.base, data)
    except SourceError as error:
        return Checked(error.diagnostics, error.sources, base_of(path, module), {})


def _reasons(project: Project, source: Source) -> dict[str, str]:
    try:
        return dict(travel(project, source).reasons)
    except SourceError:
        return {}  # a module without a flow may import what is not Python


def _open(
    path: Path, module: str, unsaved: Mapping[Path, str] | None = None
) -> tuple[Project, Names, Source]:
    project, source = open_project(path, module, unsaved)
    return project, Names(project), source


def _analyse(flow: FlowDefinition, calls: Calls) -> list[Diagnostic]:
    found = check_definition(flow)
    place, project = flow.source.span(flow.definition), calls.names.project
    try:
        calls.mark(flow)
    except Exception as error:
        describe_fault("mark", error)
        calls.fault = error
    else:
        found += findings_of("advise", place, lambda: advise(flow, calls.names))
    module = flow.source.module
    found += findings_of("misused_api", place, lambda: misused_api(calls.names, module))
    found += findings_of("secrets", place, lambda: secrets(project, module))
    found += findings_of("taken_names", place, lambda: taken_names(project, module))
    found += findings_of("starts_at_import", place, lambda: starts_at_import(calls.names, module))
    found += findings_of("late_codecs", place, lambda: late_codecs(project, module))
    return [*found, *findings_of("hidden_order", place, lambda: hidden_order(project))]


def _about_crossing(flow: FlowDefinition, names: Names, result: Cut) -> list[Diagnostic]:
    place = flow.source.span(flow.definition)
    return findings_of(
        "crossing", place, lambda: crossing(flow, names, result.blocks, result.steps)
    )


def _normal_form(flow: FlowDefinition, calls: Calls) -> FlowIR:
    """Return a flow in normal form, with its helpers normalised separately and then inlined."""
    if calls.fault:
        needs = every_checkpoint(calls.names)
        return unexpected(bare(flow), "mark", calls.fault, needs)
    while True:
        try:
            return _inlined(flow, calls)
        except LocalFunctionStays as stays:
            calls.keep(stays.callee)


def _inlined(flow: FlowDefinition, calls: Calls) -> FlowIR:
    made: dict[str, FlowIR | Why] = {}

    def find(callee: str) -> FlowIR | Why:
        if callee not in made:
            helper = calls.helpers[callee]
            made[callee] = helper.why_not(flow.definition) or normal(helper.definition)
        return made[callee]

    def normal(definition: FlowDefinition) -> FlowIR:
        try:
            literals = calls.literals(definition.source)
            local = calls.local_to(definition)
            ir = lower(definition, calls.names, literals, calls.methods, *local)
        except Exception as error:
            return unexpected(bare(definition), "lower", error)
        ir = normalise(ir)
        if ir.whole:
            stay(ir)
        return ir

    ir = normal(flow)
    try:
        return inline(ir, find)
    except LocalFunctionStays:
        raise
    except Exception as error:
        return unexpected(ir, "inline", error)


def _stop_on_errors(found: list[Diagnostic], project: Project) -> None:
    if any(diagnostic.severity == "error" for diagnostic in found):
        texts = _texts(project)
        raise SourceError(_finished(found, texts), masked(texts, found))


def _texts(project: Project) -> dict[str, str]:
    return {source.file: source.text for source in project.sources.values() if source}


def _finished(
    found: list[Diagnostic], texts: dict[str, str], looked_at: Iterable[Span] = ()
) -> tuple[Diagnostic, ...]:
    """Return the findings in order and without duplicates, after applying the source's comments."""
    comments = ignores(texts)
    # Two flows of a file may have the same finding in code that both call.
    once = silence(dict.fromkeys(found), comments)
    # After an error the analysis is incomplete.
    if not any(d.severity == "error" for d in found):
        once += without_effect(once, comments, looked_at)
    return tuple(sorted(once, key=lambda d: (d.span.file, d.span.line, d.span.column, d.code)))


@contextmanager
def _room_for_deep_source(path: Path) -> Iterator[None]:
    """Let the visitors recurse into source of depth `MAX_DEPTH`, with several frames per level."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, MAX_DEPTH * 20))
    try:
        yield
    except RecursionError as error:
        message = "one name leads to the next, too many times to follow"
        raise refused(SOURCE_TOO_LARGE, path.name, 1, 1, message) from error
    finally:
        sys.setrecursionlimit(before)
