"""Explain the cuts of a flow: why each is there or not, what that costs, and what would cut it.

The flow is compiled for a target, as `kitaru compile` does, and nothing is written. For each region
the compiler tries changes of the source in memory, so a proposed change is known to cut it.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Span, StepItem, WaitItem

if TYPE_CHECKING:
    from kitaru_compiler import Compilation
    from kitaru_compiler.diagnostics.model import Diagnostic
    from kitaru_compiler.fixes.cuts.trial import Change, Trials
    from kitaru_compiler.ir.nodes import CheckpointOptions, DurableCall
    from kitaru_targets.base import Target

    from kitaru.ops.compile import Request
    from kitaru.wire.plan import Block, Plan, Resources, Step

Kind = Literal["cut", "region", "joined", "wait", "condition", "variable"]
_CHEAP = ("wait", "log", "memory", "inbox")


@dataclass(frozen=True, slots=True)
class Cost:
    """The start-up cost of a run.

    `containers` is the number of containers that start one after the other on the longest path, and
    `seconds` the time that this takes, low and high, from the target's table of estimates.
    """

    containers: int
    seconds: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of the source after which the compiler makes the cut. It was compiled, not run.

    `what` is the change as an instruction. `meaning` is what changes for the flow; empty if its
    meaning stays the same. `steps` are the steps that the changed lines become, each with its
    retries and resources. `cost` is the start-up cost of a run of the changed flow.
    """

    what: str
    meaning: str
    diff: str
    steps: tuple[str, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class Part:
    """A place of a flow where a cut is or could be.

    Attributes:
        kind: `cut` (a container starts), `region` (code that stays together), `joined` (a call in
            the step before it), `wait`, `condition` (one that the document does not decide) or
            `variable` (one whose value cannot cross a cut).
        name: the block, the step or the variable.
        depth: the number of branches around it.
        code: the code of a diagnostic, or one of `REASONS`; empty for a cut.
        calls: the durable calls in it, one for each place in the source.
        again: how many calls may run again if the process is killed here, -1 for all that were
            running.
        keeps, loses: what works without the cut, and what does not.
        advice: what the diagnostic advises.
        proposal: a change that the compiler confirmed, if one was found.
        tried: how many changes were compiled to find it.
        silenced: whether a comment in the source suppresses the diagnostic.
    """

    kind: Kind
    name: str
    depth: int
    code: str
    reason: str
    span: Span
    calls: tuple[str, ...] = ()
    again: int = 0
    keeps: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    advice: str = ""
    proposal: Proposal | None = None
    tried: int = 0
    silenced: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a flow is cut as it is for one target: its parts in the order of the source.

    `unit` is what a step becomes, in the words of the target. `start_seconds` is the time in which
    one container starts, low and high. `cost` is that of a run as the flow is.
    """

    flow: str
    target: str
    title: str
    unit: str
    start_seconds: tuple[int, int]
    cost: Cost
    parts: tuple[Part, ...]

    @property
    def uncut(self) -> tuple[Part, ...]:
        """The parts where a cut could be and is not, one for each place, without suppressed ones.

        A place of the source may be several parts: in an unrolled loop, or in a helper.
        """
        kinds = ("region", "condition", "variable")
        found = [
            part
            for part in self.parts
            if (part.kind in kinds or part.code == "KIT607") and not part.silenced
        ]
        # From the first call on that exceeds a document's size, all others do.
        limit = ("KIT607", None)
        places = {
            limit if part.code == "KIT607" else (part.code, part.span): part
            for part in reversed(found)
        }
        return tuple(reversed(places.values()))


REASONS = {
    "inline": 'the checkpoint is declared with `runtime="inline"`',
    "fused": "`--granularity fused` lets calls with equal resources share a container",
    "single": "`--granularity single` makes no cuts",
    "whole": "the target runs the flow as one process",
    "threads": "submitted calls run as threads of one step",
    "cheap": "it needs no container of its own",
    "wait": "a wait needs no container",
}
"""The codes of the reasons that are no diagnostics, because the code asks for them."""


def explain(request: Request) -> Explanation:
    """Explain why each cut of a flow is or is not there, on the request's target.

    Raises:
        UsageError: the target is unknown.
        SourceError: the source has errors.

    Example:
        for part in explain(request("review.py", "vertex")).uncut:
            print(part.code, part.span.line, part.proposal and part.proposal.diff)
    """
    from kitaru_compiler import compile_flow
    from kitaru_compiler.fixes.cuts.trial import Trials
    from kitaru_targets import registry

    from kitaru.ops.compile import uncollected
    from kitaru.ops.findings import named_from_here
    from kitaru.runtime.secrets import register_local

    target, location = registry.get(request.target), request.flow
    compile = partial(
        compile_flow,
        location.path,
        location.flow,
        granularity=request.granularity,
        profile=target.profile,
        module=location.module,
    )
    with uncollected(), named_from_here(location):
        made = compile()
        register_local(made.plan)
        trials = Trials(made, lambda texts: compile(unsaved=texts))
        return _Explaining(made, target, trials).explanation()


class _Explaining:
    """Collects the parts of one compilation."""

    def __init__(self, made: Compilation, target: Target, trials: Trials) -> None:
        self._made = made
        self._plan = made.plan
        self._target = target
        self._profile = target.profile.with_options(made.plan.options)
        self._trials = trials
        self._blocks = {block.name: block for block in made.plan.blocks}
        self._notes = {(note.code, note.span): note for note in made.diagnostics}

    def explanation(self) -> Explanation:
        target = self._target
        found = list(self._laid(self._plan.layout, 0))
        placed = {part.name: index for index, part in found}
        depth = 0
        ordered: list[tuple[int, Part]] = []
        depths = sorted((index, part.depth) for index, part in found)
        for block in self._plan.blocks:
            while depths and depths[0][0] <= block.index:
                depth = depths.pop(0)[1]
            if block.name not in placed and (part := self._joined(block, depth)):
                ordered.append((block.index, part))
        ordered = sorted([*found, *ordered], key=lambda pair: pair[0])
        parts = [part for _, part in ordered]
        parts += self._variables()
        parts = [replace(part, span=self._from_here(part.span)) for part in parts]
        cost = self._cost(self._plan)
        return Explanation(
            flow=self._plan.flow,
            target=target.name,
            title=target.title,
            unit=target.unit,
            start_seconds=self._profile.start_seconds,
            cost=cost,
            parts=tuple(parts),
        )

    def _from_here(self, span: Span) -> Span:
        from kitaru.ops.findings import file_from_here

        return replace(span, file=file_from_here(span.file, self._made.base))

    def _cost(self, plan: Plan) -> Cost:
        from kitaru_compiler.cut.latency import starts

        found = starts(plan, self._profile)
        return Cost(found.steps, found.seconds)

    def _laid(self, items: Iterable[LayoutItem], depth: int) -> Iterator[tuple[int, Part]]:
        """Yield the parts of the layout, each with the index of its block."""
        for item in items:
            match item:
                case StepItem(name):
                    yield self._step(self._plan.step(name), depth)
                case FanItem(fan=name):
                    step = self._plan.step(name)
                    yield self._blocks[step.blocks[0]].index, self._fan(step, depth)
                case WaitItem(name):
                    block = self._blocks[name]
                    yield block.index, self._wait(block, depth)
                case BranchItem():
                    inner = [part for arm in item.arms for part in self._laid(arm, depth + 1)]
                    part = self._condition(item, depth)
                    if part and inner:
                        yield inner[0][0], part
                    yield from inner

    def _step(self, step: Step, depth: int) -> tuple[int, Part]:
        block = self._starting(step)
        if block.name in self._made.regions and (part := self._region(block, depth)):
            return block.index, part
        reason = self._why_cut(step, block)
        again = int(any(self._work(self._blocks[name]) for name in step.blocks))
        code = "threads" if block.kind == "fan" and not self._is_native(block) else ""
        return block.index, Part(
            "cut", step.name, depth, code, reason, block.span, block.calls, again
        )

    def _starting(self, step: Step) -> Block:
        """Return the block for which a step starts. A first step may begin before it."""
        return self._blocks.get(step.name) or self._blocks[step.entry]

    @staticmethod
    def _work(block: Block) -> bool:
        return bool(block.calls) and block.kind not in _CHEAP

    def _why_cut(self, step: Step, block: Block) -> str:
        unit = self._target.unit
        if block.kind == "entry":
            return f"the flow begins: the first {unit}"
        if block.kind == "gather":
            return f"the results of the submitted calls are read here: one {unit} waits for them"
        if block.kind == "wait":
            return f"the answer of the wait `{block.name}` arrives: one {unit} continues"
        if block.kind == "fan":
            if not self._is_native(block):
                return f"one {unit} for all submitted calls: {self._why_threads(block)}"
            return f"several steps reach this submit: one {unit}"
        if agent := next((a for a in self._plan.agents if a.block == block.name), None):
            what = f"`{agent.name}` is an agent of {agent.harness}"
            kept = "each of its model requests and tool calls is a record"
            if not agent.durable:
                kept = "no adapter records its calls: a crash in it runs all of them again"
            return "; ".join([f"{what}: one {unit}", *agent.parts, *self._asked(step), kept])
        what = "a model call" if block.kind == "llm" else f"`{block.calls[0]}` is a checkpoint"
        if block.reason:
            what = f"a `try` that calls `{block.calls[0]}`"
        return "; ".join([f"{what}: one {unit}", *self._asked(step)])

    def _asked(self, step: Step) -> Iterator[str]:
        if step.retries:
            by = self._target.title if step.retry == "native" else "the step itself"
            yield f"{step.retries} {'retry' if step.retries == 1 else 'retries'} by {by}"
        if shown := _shown(step.resources):
            yield shown
        if step.isolated:
            yield "isolated"

    def _fan(self, step: Step, depth: int) -> Part:
        block = self._blocks[step.blocks[0]]
        most = min(self._plan.max_parallel, step.per_item)
        reason = "; ".join([
            f"each submitted call is one {self._target.unit}, {most} at a time",
            *self._asked(step),
        ])  # fmt: skip
        return Part("cut", step.name, depth, "", reason, block.span, block.calls, 1)

    def _wait(self, block: Block, depth: int) -> Part:
        from kitaru_targets.matrix import capabilities

        how = next(c.how for c in capabilities(self._target) if c.name == "waits")
        if self._profile.waits == "suspended":
            how = "the run ends here; the answer starts a pipeline of the remaining steps"
        how = how[0].lower() + how[1:].removesuffix(".")
        return Part("wait", block.name, depth, "wait", how, block.span, block.calls)

    def _condition(self, item: BranchItem, depth: int) -> Part | None:
        note = self._notes.get(("KIT322", item.span))
        if note:
            return replace(
                self._noted("condition", f"line {item.span.line}", note, depth),
                loses=("Steps of an arm that is not taken may start, and find nothing to do.",),
            )
        return None

    def _noted(self, kind: Kind, name: str, note: Diagnostic, depth: int) -> Part:
        change, tried = self._trials.of_finding(note)
        return Part(
            kind, name, depth, note.code, note.message, note.span, advice=note.help,
            proposal=self._proposal(change), tried=tried, silenced=note.silenced,
        )  # fmt: skip

    def _variables(self) -> Iterator[Part]:
        for note in self._made.diagnostics:
            if note.code in ("KIT201", "KIT210"):
                name = note.message.split("`")[1]
                loses = ("The cut is left out: both steps run in one process, then the second one "
                         "finds its work done.",)  # fmt: skip
                yield replace(self._noted("variable", name, note, 0), loses=loses)

    def _region(self, block: Block, depth: int) -> Part | None:
        """Return the part of a region, None if a cut would change nothing for it."""
        region, source = self._made.regions[block.name]
        note = self._notes.get((region.rule.code, source.span(region.at)))
        if note is None:
            return None
        change, tried = self._trials.of_region(block.name)
        again = 1
        if any(call.kind == "submit" for call in region.calls):
            again = self._plan.max_parallel
        if any(call.is_deferred for call in region.calls):
            # Any number of tasks may run side by side.
            again = -1
        return Part(
            kind="region",
            name=block.name,
            depth=depth,
            code=block.reason,
            reason=block.why,
            span=block.span,
            calls=block.calls,
            again=again,
            keeps=(
                "Each call is recorded when it returns, and does not run again after a crash.",
                *(["Its waits release the process, as everywhere."] if block.may_wait else []),
            ),
            loses=tuple(self._lost(block, region.calls, region.needs)),
            advice=block.fix,
            proposal=self._proposal(change),
            tried=tried,
            silenced=note.silenced,
        )

    def _lost(
        self, block: Block, calls: list[DurableCall], needs: Iterable[CheckpointOptions]
    ) -> Iterator[str]:
        """Yield what the calls of a region would have in steps of their own."""
        unit = self._target.unit
        options = [o for call in calls for o in (call.options, *call.needs) if o]
        options += needs
        working = [call for call in calls if call.kind not in _CHEAP]
        repeated = block.reason in ("KIT310", "KIT311", "KIT314")
        if repeated or len(working) > 1 or any(call.kind == "helper" for call in working):
            yield f"One {unit} for each call, with its own log and its own place in the graph."
        retried = {o.name: o.retries for o in options if o.retries and o.native_retry}
        if retried and self._profile.retry == "native":
            names = ", ".join(f"`{name}` ({number})" for name, number in retried.items())
            yield (
                f"Retries by {self._target.title}: {names}. They run inside the step, so a "
                "killed process is not started again."
            )
        if held := _held(options):
            yield held
        if self._profile.fan_out and block.reason in ("KIT311", "KIT314", "KIT320"):
            yield "Calls side by side on several machines."
        if block.may_wait and self._profile.waits == "native" and not self._profile.waits_inside:
            yield "A wait as a node: the run ends, and the answer starts another one."

    def _proposal(self, change: Change | None) -> Proposal | None:
        from kitaru_compiler.fixes.cuts.trial import is_reached

        from kitaru.ops.findings import file_from_here

        if change is None:
            return None
        plan = change.compilation.plan
        lines = (change.file, change.lines)
        named = {block.name: block for block in plan.blocks}
        steps = tuple(
            _label(step, self._asked(step))
            for step in plan.steps
            if is_reached(named.get(step.name, named[step.entry]), plan, lines)
        )
        diff = _diff(change, file_from_here(change.file, self._made.base))
        return Proposal(change.what, change.meaning, diff, steps, self._cost(plan))

    def _joined(self, block: Block, depth: int) -> Part | None:
        """Return the part of a call that runs in the step before it."""
        code, advice = self._why_joined(block)
        if not code:
            return None
        reason = REASONS.get(code, "")
        if code == "limit":
            code = "KIT607"
            reason = f"a document of {self._target.title} takes {self._profile.max_steps} steps"
        elif code == "threads":
            reason = self._why_threads(block)
        again = self._plan.max_parallel if block.kind == "fan" else int(self._work(block))
        return Part(
            "joined", block.name, depth, code, reason, block.span, block.calls, again,
            advice=advice,
        )  # fmt: skip

    def _why_joined(self, block: Block) -> tuple[str, str]:
        if block.kind == "flow":
            return ("whole" if self._target.runs_whole else "single"), ""
        if block.kind in ("log", "memory", "inbox"):
            return "cheap", ""
        if block.kind == "fan" and not self._is_native(block):
            return "threads", ""
        joined = self._made.joined.get(block.name, "")
        if joined == "single" and self._target.runs_whole:
            return "whole", ""
        return joined, _JOINED_ADVICE.get(joined, "")

    def _is_native(self, fan: Block) -> bool:
        """Return whether the calls that a block submits become nodes."""
        return any(step.per_item and fan.name in step.blocks for step in self._plan.steps)

    def _why_threads(self, block: Block) -> str:
        if not self._profile.fan_out:
            return f"{self._target.title} makes no nodes of a list, so they are threads"
        if self._plan.granularity != "checkpoint":
            return f"with `--granularity {self._plan.granularity}`, they are threads"
        return 'with `runtime="inline"`, they are threads'


_JOINED_ADVICE = {
    "inline": 'remove `runtime="inline"`',
    "fused": "pass `--granularity checkpoint`",
    "single": "pass `--granularity checkpoint`",
    "limit": "call the rest from a flow of its own, or compile with --granularity fused",
}


def _label(step: Step, asked: Iterable[str]) -> str:
    name = f"{step.name} × calls" if step.per_item else step.name
    about = "; ".join(asked)
    return f"{name} ({about})" if about else name


def _shown(asked: Resources) -> str:
    parts = [("cpu", asked.cpu), ("memory", asked.memory), ("gpu", asked.gpu)]
    return ", ".join(f"{name} {value}" for name, value in parts if value)


def _held(options: list[CheckpointOptions]) -> str:
    """Return the resources that a region holds during calls that do not ask for them."""
    from kitaru_compiler.cut.resources import most

    asked = most(options)
    less = [o.name for o in options if most([o]) != asked]
    if not less or not _shown(asked):
        return ""
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(less))
    return f"Its own machine for {names}: {_shown(asked)} is held during all calls."


def _diff(change: Change, file: str) -> str:
    before = io.StringIO(change.before).readlines()
    after = io.StringIO(change.after).readlines()
    lines = difflib.unified_diff(before, after, file, file, n=1)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
