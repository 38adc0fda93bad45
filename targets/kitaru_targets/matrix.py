"""The support matrix: what each target does natively, and the replacement for the rest.

python -m kitaru_targets.matrix > docs/reference/targets.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kitaru_compiler.cut.profile import Profile

from kitaru_targets import registry
from kitaru_targets.base import Target, Transport

_HEAD = """\
# Targets

Made from the targets' own profiles by `python -m kitaru_targets.matrix`; `kitaru target list` says
the same. A flow means the same on all of them: where a target cannot do something itself, the step
runtime does it."""


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability that a target has or lacks; in both cases `how` describes the behaviour.

    `needs` is the option that enables it.
    """

    name: str
    native: bool
    how: str
    needs: str = ""


def capabilities(target: Target) -> tuple[Capability, ...]:
    """Return the capabilities of a target, present or not, in the same order for each target.

    >>> capabilities(registry.get("airflow"))[3].name
    'waits'
    """
    profile = target.profile
    return (
        Capability(
            "branches",
            profile.branches,
            _WHOLE if profile.is_whole else _BRANCHES[profile.branches],
        ),
        Capability("retries", profile.retry == "native", _RETRIES[profile.retry]),
        Capability("retry pauses", profile.retry_pauses, _PAUSES[profile.retry_pauses]),
        Capability("waits", profile.waits == "native", _waits(profile), profile.waits_need),
        Capability("sleeps", profile.timers, _SLEEPS[profile.timers]),
        Capability("fan-out", profile.fan_out > 0, _FAN_OUT[profile.fan_out > 0]),
        _schedules(target),
        _limits(target),
    )


def _schedules(target: Target) -> Capability:
    can = target.schedules
    if can is None:
        return Capability("schedules", native=False, how=_DISPATCHED)
    overlap, catchup = (
        ", ".join(f"`{one}`" for one in these) for these in (can.overlap, can.catchup)
    )
    allow = ", with waits only `allow`" if can.ends_at_waits and len(can.overlap) > 1 else ""
    native = (
        f"With `{_BY_TARGET}`, {can.name} in `{can.file}` starts the version whose document it "
        f"has. Overlap: {overlap}{allow}. Catch-up: {catchup}."
    )
    return Capability(
        "schedules",
        native=True,
        how=f"{native} Without it, a dispatcher starts the flow.",
        needs=_BY_TARGET,
    )


def _limits(target: Target) -> Capability:
    how = f"{_LIMITED} {_DEAD[_tells(target)]}"
    if target.limits_runs:
        how += f" {_NATIVE_LIMIT.format(target.limits_runs)}"
    return Capability("limits", native=False, how=how, needs=_ALIKE if target.limits_runs else "")


_ALIKE = "concurrency="
_NATIVE_LIMIT = (
    "If the flow never waits, and its limits queue, without a priority, a `concurrency` without a "
    "key is also {} of the document: a run that was started elsewhere waits there for its place."
)
_BY_TARGET = 'schedule_by="target"'


def _tells(target: Target) -> bool:
    """Return whether Kitaru learns that a run has ended without a word."""
    return target.name == registry.LOCAL or target.has_ended is not None


_LIMITED = (
    "A dispatcher starts no more executions than the limits of `@flow` allow, and the first step "
    "of a run that was started elsewhere checks them."
)
_DEAD = {
    True: "A run that ended without a word loses its place.",
    False: "A run that ended without a word keeps its place until its execution is retried or "
    "cancelled: the service is not asked.",
}
_DISPATCHED = (
    "A dispatcher starts the schedules of `@flow` and of `kitaru schedule`, each tick once, and "
    "follows the tag."
)


_BRANCHES = {
    True: "Steps of a branch that is not taken are not started.",
    False: "Steps of a branch that is not taken start, find nothing to do and end, unless the "
    "outcome of one step that always runs can skip them.",
}
_WHOLE = "One process runs the whole flow up to a wait, and so only the branch that is taken."
_RETRIES = {
    "native": "A failed step is started again, up to the retries of its checkpoint.",
    "shim": "A failed checkpoint is retried in its step's container.",
}
_PAUSES = {
    True: "The orchestrator pauses as long as the checkpoint sets.",
    False: "A checkpoint with a retry pause is retried in its step's container.",
}
_WAITS = {
    "native": "A node of its own asks; the run stays, holds no container, and continues.",
    "suspended": "The run ends at a wait; the answer starts a pipeline of the remaining steps.",
}
_SLEEPS = {
    True: "The run stays and holds no container during a long `kitaru.sleep`. The orchestrator "
    "starts the step again when the sleep ends, and the step after a question when its `deadline` "
    "has passed. A dispatcher may be earlier: the first recorded answer counts.",
    False: "The run ends at a long `kitaru.sleep`. A dispatcher starts the remaining steps when it "
    "ends, and lets a question expire at its `deadline`.",
}
_SOME_WAITS = (
    "With the option `{}`, the run stays open at the first wait of a step that every run reaches. "
    "Without it, and at any other wait, the run ends, and the answer starts a pipeline of the "
    "remaining steps."
)
_EVERY_WAIT = (
    "Every wait is a node that asks, also one in a loop or a helper; the run stays, holds no "
    "container, and continues."
)
_FAN_OUT = {
    True: "Calls over a list that is known only at run time become nodes that run side by side.",
    False: "Calls over a list that is known only at run time are threads of one step.",
}
_OPTIONS = """\
A project sets the options of a target in a table of pyproject.toml or of a stack. Each is a string.
`kitaru compile` checks names and values, and `kitaru stack show` prints them. Each table may also
have [overrides](../how-to/configuration.md#overrides): JSON patches of the emitted document."""
_ROWS: tuple[tuple[str, Callable[[Target], str]], ...] = (
    ("orchestrator", lambda target: target.title),
    ("document", lambda target: f"`{target.document}`"),
    ("a step starts in", lambda target: "{}–{} s".format(*target.profile.start_seconds)),
    ("steps at most", lambda target: _count(target.profile.max_steps)),
    ("image when none is named", lambda target: target.transport.image or "none"),
    ("code inside the document", lambda target: _yes(target.transport.inline)),
    ("an input goes through the store over", lambda target: _length(target.transport)),
)


def _length(transport: Transport) -> str:
    return f"{transport.longest_input:,} characters"


def markdown() -> str:
    """Return the support matrix of all targets as Markdown."""
    targets = [registry.get(name) for name in registry.names()]
    known = {target.name: capabilities(target) for target in targets}
    table = [("", *known), ("---",) * (len(known) + 1)]
    table += [(label, *map(show, targets)) for label, show in _ROWS]
    for same in zip(*known.values(), strict=True):
        table.append((f"native {same[0].name}", *map(_cell, same)))
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([_HEAD, "", *lines, "", *_what_happens(known), *_options(targets)])


def _what_happens(known: dict[str, tuple[Capability, ...]]) -> list[str]:
    lines = []
    for same in zip(*known.values(), strict=True):
        lines += [f"## {same[0].name.capitalize()}", ""]
        for how in dict.fromkeys(one.how for one in sorted(same, key=lambda one: not one.native)):
            names = [n for n, one in zip(known, same, strict=True) if one.how == how]
            lines.append(f"- {', '.join(names)}: {how}")
        lines.append("")
    return lines


def _options(targets: Iterable[Target]) -> Iterator[str]:
    yield from ("## Options", "", _OPTIONS, "")
    for target in targets:
        yield from (f"### `[tool.kitaru.{target.name}]`", "", "| option | value |", "| --- | --- |")
        for name, option in sorted(target.options.items()):
            most = f", at most {option.most:,}" if option.most else ""
            yield f"| `{name}` | {option.meaning.replace('|', ' or ')}{most} |"
        yield ""


def _waits(profile: Profile) -> str:
    need = profile.waits_need
    if profile.waits_inside:
        return _EVERY_WAIT
    return _SOME_WAITS.format(need) if need else _WAITS[profile.waits]


def _cell(capability: Capability) -> str:
    return f"with `{capability.needs}`" if capability.needs else _yes(capability.native)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


if __name__ == "__main__":
    sys.stdout.write(markdown())
