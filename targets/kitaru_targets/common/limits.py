"""Check a plan against a target's limits, and report source lines that exceed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kitaru_compiler.diagnostics.model import Diagnostic, SourceError
from kitaru_compiler.diagnostics.rules.names import BEYOND_A_LIMIT

from kitaru.wire import amounts
from kitaru.wire.plan import Plan, Resources, Span
from kitaru_targets.base import ContainerSpec
from kitaru_targets.common.parameters import Declared

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance type: cores, memory in GiB and GPUs."""

    name: str
    cores: int
    memory: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a target.

    `parameters` and `variables` are counts. `document`, `text` (one argument, or the name or value
    of a variable), `image` and `store` are in characters. 0 means that no limit is known.
    `machines` are the instance types from the cheapest to the most expensive: a step gets the first
    that is large enough.
    """

    title: str
    document: int
    machines: tuple[Machine, ...]
    parameters: int = 0
    variables: int = 0
    text: int = 0
    image: int = 0
    store: int = 0


def machine(asked: Resources, limits: Limits) -> Machine | None:
    """Return the smallest machine with the requested resources; None if none is large enough.

    Raises UsageError for amounts that are not valid.
    """
    cores = amounts.cores(asked.cpu) if asked.cpu else 0
    memory = amounts.size(asked.memory) / _GIB if asked.memory else 0
    for one in limits.machines:
        kind = bool(one.gpus) == bool(asked.gpu)
        if kind and one.cores >= cores and one.memory >= memory and one.gpus >= asked.gpu:
            return one
    return None


def check(plan: Plan, wiring: ContainerSpec, declared: Sequence[Declared], limits: Limits) -> None:
    """Raise SourceError with all parts that exceed the target's limits."""
    found = (
        *_machines(plan, limits),
        *_counts(plan, wiring, declared, limits),
        *_texts(plan, wiring, limits),
    )
    if found:
        raise SourceError(found, {})


def check_size(plan: Plan, text: str, limits: Limits) -> None:
    """Raise SourceError if the document is longer than the target accepts."""
    if len(text) > limits.document:
        message = f"{limits.title} takes a document of {limits.document:,} characters, and this one"
        fix = "kitaru compile … --granularity fused, or --granularity single"
        raise SourceError((_of_flow(plan, f"{message} has {len(text):,}", fix),), {})


def _machines(plan: Plan, limits: Limits) -> Iterator[Diagnostic]:
    for step in plan.steps:
        asked = step.resources
        if machine(asked, limits) is None:
            named = {"cpu": asked.cpu, "memory": asked.memory, "gpu": asked.gpu}
            shown = ", ".join(f"{name}={value!r}" for name, value in named.items() if value)
            message = f"{limits.title} has no machine known here that is as large as {shown}"
            yield Diagnostic(BEYOND_A_LIMIT, step.span, message, "", "ask for less")


def _counts(
    plan: Plan, wiring: ContainerSpec, declared: Sequence[Declared], limits: Limits
) -> Iterator[Diagnostic]:
    variables = {"PYTHONHASHSEED", *wiring.environment}
    fewer = "take one dict in place of several inputs"
    counts = [
        (len(declared), limits.parameters, "pipeline parameters", fewer),
        (len(plan.parameters) + len(variables), limits.variables, "variables of a step", fewer),
    ]
    for count, most, what, fix in counts:
        if most and count > most:
            yield _of_flow(plan, f"{limits.title} takes {most} {what}, and here are {count}", fix)


def _texts(plan: Plan, wiring: ContainerSpec, limits: Limits) -> Iterator[Diagnostic]:
    texts = [
        *(("a variable's name", name, limits.text) for name in wiring.environment),
        *((f"the value of {n}", value, limits.text) for n, value in wiring.environment.items()),
        *(("an argument", text, limits.text) for text in wiring.leading),
        ("the image's name", wiring.image, limits.image),
        ("the store's URL", wiring.store, limits.store),
    ]
    for what, text, most in texts:
        if most and len(text) > most:
            message = f"{limits.title} takes {most} characters, and {what} has {len(text)}"
            yield _of_flow(plan, message, "use a shorter one")


def _of_flow(plan: Plan, message: str, fix: str) -> Diagnostic:
    span = Span(plan.file, plan.line, 1, plan.line, 1)
    return Diagnostic(BEYOND_A_LIMIT, span, message, "", fix)
