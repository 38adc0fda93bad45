"""Show a compilation: its findings, the outline of its pipeline, and where its files are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output, label, show_findings
from kitaru.ops.compile import Compiled, checkpoints, local_store

if TYPE_CHECKING:
    from kitaru_compiler.cut.latency import Starts

    from kitaru.ops.findings import Report
    from kitaru.wire.plan import LayoutItem, Plan, Span, Step


def reporting(output: Output, form: str = "text") -> Report:
    """Return a function that shows the findings of a compilation in `form`, a `--format`."""
    return partial(show_findings, output=output, form=form)


_DATA_SHOWN = 8


def warn_of_local_store(store: str | None, target: str, output: Output) -> list[str]:
    """Warn if a pipeline is compiled with a store on this machine, and return the warnings."""
    found = local_store(store, target)
    if found is None:
        return []
    if not output.as_json:
        output.note(f"{label('warning', 'yellow')}: {found[0]}", hang=9)
        output.note(f"help: {found[1]}")
    return [" ".join(found)]


def to_json(compiled: Compiled) -> dict[str, Any]:
    """Return a compilation as the command line's JSON."""
    from kitaru_compiler.diagnostics.render import in_order
    from kitaru_compiler.diagnostics.render import to_json as finding

    return {
        "flow": compiled.plan.flow,
        "target": compiled.target_name,
        "directory": str(compiled.directory),
        "document": str(compiled.document),
        "steps": [step.name for step in compiled.plan.steps],
        "checkpoints": checkpoints(compiled.plan),
        "starts": asdict(compiled.starts),
        "data": dict(compiled.data),
        "diagnostics": [finding(d) for d in in_order(compiled.findings)],
    }


def show(compiled: Compiled, output: Output) -> None:
    """Write the outline of the pipeline, and the location of its files."""
    plan = compiled.plan
    title = f"{label(plan.flow, 'green')} for {compiled.target_name}: {_counts(plan)}"
    output.say(title, hang=2)
    steps = {step.name: f"{_place(step.span)}{_agents(plan, step)}" for step in plan.steps}
    blocks = {block.name: block.span for block in plan.blocks}
    output.table([*_rows(steps, blocks, plan.layout, 1)])
    output.say(f"\nwrote {compiled.directory}/")
    for line in data_lines(compiled.data):
        output.say(line, hang=9)
    output.say(f"starts   {_starts(compiled.starts)}", hang=9)


def data_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each bundled data file. If there are many, only the first are listed."""
    for name, reason in list(reasons.items())[:_DATA_SHOWN]:
        yield f"takes    {name} ({reason})"
    if len(reasons) > _DATA_SHOWN:
        yield f"takes    {len(reasons) - _DATA_SHOWN} more files, all listed in lock.json"


def _starts(found: Starts) -> str:
    from kitaru_compiler.cut.latency import shown

    steps = "1 container" if found.steps == 1 else f"{found.steps} containers in a row"
    if found.idle:
        steps += f" (up to {found.idle} with nothing to do)"
    taken, otherwise = shown(found.seconds), shown(found.seconds_of_calls)
    if found.calls == found.steps:
        return f"{steps}, about {taken}"
    instead = f" instead of {otherwise}" if otherwise != taken else ""
    return f"{found.calls} calls → {steps}, about {taken}{instead}"


def example_inputs(plan: Plan) -> str:
    """Return `--input` options for every required input of a flow, to show in a command."""
    names = (parameter.name for parameter in plan.parameters if parameter.required)
    return "".join(f" --input {name}=…" for name in names)


def _counts(plan: Plan) -> str:
    waits = sum(block.kind == "wait" for block in plan.blocks)
    counts = [(len(plan.steps), "step"), (len(checkpoints(plan)), "checkpoint"), (waits, "wait")]
    counts.insert(1, (len({agent.name for agent in plan.agents}), "agent"))
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts if n)


def _rows(
    steps: Mapping[str, str],
    blocks: Mapping[str, Span],
    layout: Iterable[LayoutItem],
    depth: int,
) -> Iterator[tuple[str, str]]:
    from kitaru.wire.plan import BranchItem, FanItem, StepItem

    indent = "  " * depth
    for item in layout:
        if isinstance(item, StepItem):
            yield f"{indent}{item.step}", steps[item.step]
        elif isinstance(item, FanItem):
            yield f"{indent}{item.fan} × calls", steps[item.fan]
        elif isinstance(item, BranchItem):
            for number, arm in enumerate(item.arms):
                if arm:
                    yield f"{indent}{'if' if number == 0 else 'else'}", _place(item.span)
                    yield from _rows(steps, blocks, arm, depth + 1)
        else:
            yield f"{indent}wait {item.block}", _place(blocks[item.block])


def _agents(plan: Plan, step: Step) -> str:
    """Return the parts of the agents that a step runs, to show after its place."""
    agents = [agent for agent in plan.agents if agent.block in step.blocks]
    return "".join(
        f"  agent {agent.name}{''.join(f', {part}' for part in agent.parts)}" for agent in agents
    )


def _place(span: Span) -> str:
    return f"{span.file}:{span.line}"
