"""Decides what a compilation is: source in; plan, code and findings out; nothing is run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kitaru.config import compiled_settings, setting
from kitaru.errors import UsageError
from kitaru.settings import CARRIED
from kitaru.version import VERSION
from kitaru.wire.plan import Granularity, Plan, Span
from kitaru_compiler.cut.plan import cut
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.diagnostics.model import Diagnostic, SourceError
from kitaru_compiler.diagnostics.rules import kit102
from kitaru_compiler.frontend.advice import advise, advised
from kitaru_compiler.frontend.advice.crossing import crossing
from kitaru_compiler.frontend.advice.hidden import hidden_order
from kitaru_compiler.frontend.advice.secrets import masked, secrets
from kitaru_compiler.frontend.calls import Calls
from kitaru_compiler.frontend.flows import (
    FlowDefinition,
    check_definition,
    find_flows,
    literal_of,
    parameters,
    select_flow,
)
from kitaru_compiler.frontend.lower import lower
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.project import Project, locate
from kitaru_compiler.frontend.requirements import requirement_texts, requirements
from kitaru_compiler.frontend.silence import ignores, silence, without_effect
from kitaru_compiler.frontend.source import MAX_DEPTH, Source, refused
from kitaru_compiler.ir.nodes import FlowIR
from kitaru_compiler.passes import normalise
from kitaru_compiler.passes.binding import Why
from kitaru_compiler.passes.inline import inline

# No target: what `check` cuts for, so that its notes are those of every target.
ANY_TARGET = Profile("any", True, "native", "suspended", 90, (0, 0), retry_pauses=True, fan_out=100)


@dataclass(frozen=True)
class Compilation:
    """One flow compiled for one target.

    `steps_py` is the text of the generated blocks, `sources` the text of each project file by
    relative path, `project` where further files are found.
    """

    plan: Plan
    steps_py: str
    diagnostics: tuple[Diagnostic, ...]
    sources: dict[str, str]
    project: Project


def compile_flow(
    path: Path,
    flow: str | None = None,
    *,
    granularity: Granularity = "checkpoint",
    profile: Profile = ANY_TARGET,
) -> Compilation:
    """Compile the flow called `flow`, or the only one, in the file at `path`.

    Never imports or runs the file. Raises UsageError when it cannot be read and SourceError, with
    all findings, when the source has errors.

        compile_flow(Path("flow.py"), profile=get("vertex").profile).plan.steps
    """
    with _room_for_deep_source(path):
        project, names, source = _open(path)
        chosen, problems = select_flow(source, names, flow)
        if chosen is None:
            raise SourceError(tuple(problems), {source.file: source.text})
        retries = setting("retries", start=path.parent).value
        calls = Calls(names, source.module, retries)
        found = _analyse(chosen, calls)
        _stop_on_errors(found, project)
        settings = compiled_settings(path.parent)
        options = dict(sorted(settings.get(profile.name, {}).items()))
        result = cut(_normal_form(chosen, calls), granularity, profile.with_options(options))
        found += crossing(chosen, names, result.blocks, result.steps)
        pins, about_pins = requirements(project, source, settings)
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
            settings={name: settings[name] for name in CARRIED if name in settings},
            requirements=pins,
            environment=dict(sorted(settings.get("environment", {}).items())),
            retries=retries,
            max_parallel=setting(
                "max_parallel", decorator=chosen.option("max_parallel"), start=path.parent
            ).value,
            pickles=result.pickles,
            secrets=dict(sorted(settings.get("secrets", {}).items())),
            image=_image(chosen),
            options=options,
        )
    texts = _texts(project) | requirement_texts(project, settings)
    findings = _finished([*found, *result.notes, *about_pins], texts)
    return Compilation(plan, result.generated.text, findings, texts, project)


def _image(flow: FlowDefinition) -> str:
    """Return the image that the decorator names, empty for none; raise UsageError for no text."""
    said = next((option.value for option in flow.options if option.arg == "image"), None)
    is_literal, image = literal_of(said)
    if said is None or (is_literal and image is None):
        return ""
    if isinstance(image, str):
        return image
    raise UsageError(
        f"{flow.source.file}:{said.lineno}: the image of @flow is not written out as a text.",
        help="Compiling runs nothing of yours: write the reference out, or set `image` elsewhere, "
        "in pyproject.toml for example.",
    )


def check(path: Path, flow: str | None = None) -> tuple[tuple[Diagnostic, ...], dict[str, str]]:
    """Return every finding in the file's flows (or in `flow` alone), and the sources they name.

    Comments that silence nothing are findings as well: only here all flows of the file are seen.
    Raises UsageError when the file cannot be read; errors in the source are findings here.
    """
    try:
        with _room_for_deep_source(path):
            project, names, source = _open(path)
            flows = find_flows(source, names)
            if flow or not flows:
                chosen, problems = select_flow(source, names, flow)
                flows = [chosen] if chosen else []
            else:
                problems = []
            for one in flows:
                calls = Calls(names, source.module)
                found = _analyse(one, calls)
                problems += found
                if not any(d.severity == "error" for d in found):
                    result = cut(_normal_form(one, calls), "checkpoint", ANY_TARGET)
                    problems += [*result.notes, *crossing(one, names, result.blocks, result.steps)]
            texts = _texts(project)
            if flows:
                settings = compiled_settings(path.parent)
                problems += requirements(project, source, settings)[1]
                texts |= requirement_texts(project, settings)
            parts = [part for one in flows for part in advised(one, names)]
            return _finished(problems, texts, parts), masked(texts, problems)
    except SourceError as error:
        return error.diagnostics, error.sources


def _open(path: Path) -> tuple[Project, Names, Source]:
    from kitaru_compiler.frontend.source import read

    project, module = locate(path)
    resolved = path.resolve()
    source = read(resolved, module, _relative(resolved, project))
    project.sources[module] = source
    return project, Names(project), source


def _relative(path: Path, project: Project) -> str:
    return path.relative_to(project.root).as_posix()


def _analyse(flow: FlowDefinition, calls: Calls) -> list[Diagnostic]:
    found = check_definition(flow)
    if isinstance(flow.definition, ast.FunctionDef):
        calls.mark(flow)
        found += advise(flow, calls.names)
    found += secrets(calls.names.project, flow.source.module)
    return [*found, *hidden_order(calls.names.project)]


def _normal_form(flow: FlowDefinition, calls: Calls) -> FlowIR:
    """Return a flow in normal form, its helpers, each normalised on its own, written out."""
    made: dict[str, FlowIR | Why] = {}

    def find(callee: str) -> FlowIR | Why:
        if callee not in made:
            helper = calls.helpers[callee]
            made[callee] = helper.why_not() or normal(helper.definition)
        return made[callee]

    def normal(definition: FlowDefinition) -> FlowIR:
        return normalise(lower(definition, calls.names, calls.literals(definition.source)))

    return inline(normal(flow), find)


def _stop_on_errors(found: list[Diagnostic], project: Project) -> None:
    if any(diagnostic.severity == "error" for diagnostic in found):
        texts = _texts(project)
        raise SourceError(_finished(found, texts), masked(texts, found))


def _texts(project: Project) -> dict[str, str]:
    return {source.file: source.text for source in project.sources.values() if source}


def _finished(
    found: list[Diagnostic], texts: dict[str, str], looked_at: Iterable[Span] = ()
) -> tuple[Diagnostic, ...]:
    """Return the findings in order, each once, with what the comments of the source say of them."""
    comments = ignores(texts)
    # Two flows of a file may find the same of what both call.
    once = silence(dict.fromkeys(found), comments)
    # Behind an error not everything was looked for.
    if not any(d.severity == "error" for d in found):
        once += without_effect(once, comments, looked_at)
    return tuple(sorted(once, key=lambda d: (d.span.file, d.span.line, d.span.column, d.code)))


@contextmanager
def _room_for_deep_source(path: Path) -> Iterator[None]:
    """Let the visitors follow source as deep as `MAX_DEPTH`, several frames to a level."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, MAX_DEPTH * 20))
    try:
        yield
    except RecursionError as error:
        message = "one name leads to the next, too many times to follow"
        raise refused(kit102.RULE, path.name, 1, 1, message) from error
    finally:
        sys.setrecursionlimit(before)
