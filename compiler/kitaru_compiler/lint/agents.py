"""Find agents and model clients whose calls a flow repeats after a crash, and mistakes with them.

A run of an agent in the flow's body is glue code for the journal, unless an adapter records the
agent's calls. In a checkpoint, it is a part of the checkpoint's record.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.diagnostics.rules.agents import (
    AGENT_IN_CHECKPOINT,
    AGENT_NAME,
    AGENT_NOT_DURABLE,
    LOOP_IN_LOOP,
    MODEL_CALL_NOT_DURABLE,
    TOOL_WITHOUT_OWN_STEP,
    TOOLSET_WITHOUT_ID,
    TWO_JOURNALS,
)
from kitaru_compiler.frontend.agents import Agents, Run, Thing
from kitaru_compiler.frontend.harnesses import Harness
from kitaru_compiler.ir.nodes import CheckpointOptions
from kitaru_compiler.lint.body import Body
from kitaru_compiler.lint.call_graph import reached

_AWAITABLE = {"run_sync": "run", "invoke": "ainvoke", "batch": "abatch", "kickoff": "kickoff_async"}
_NOTHING = "nothing is recorded, and a resume runs it again"
_NODES = (
    "only checkpoints in its nodes are recorded, and a resume may mix up those of parallel nodes"
)
# A rule, the message, the fix, and what the fix needs.
_Fact = tuple[Rule, str, str, str]


def agents_of(body: Body) -> Agents:
    """Return the reader of agents that all advisers of a project share."""
    known = body.bodies.known.setdefault(Agents, {})
    return known.setdefault(body.source.tree, Agents(body.names, body.source.module))  # type: ignore[no-any-return]


def undurable_runs(body: Body) -> Iterator[Diagnostic]:
    """Find agents and model clients that the flow's body, or a helper, calls unrecorded."""
    for (rule, message, help, replacement), node in _undurable(body):
        yield body.find(rule, node, message, help=help, replacement=replacement)
    told: set[tuple[ast.Call, str]] = set()
    for found in reached(body, _undurable):
        rule, message, help, _ = found.fact
        if (found.call, message) in told:
            continue
        told.add((found.call, message))
        where, _, why = message.partition(": ")
        text = f"{where}, through `{found.name}`: {why}"
        yield body.find(rule, found.call, text, help=help, related=found.related("it runs here"))


def _undurable(body: Body) -> Iterator[tuple[_Fact, ast.AST]]:
    if not agents_of(body).are_used:
        return
    for run in agents_of(body).runs(body.source, body.definition):
        if run.durable:
            continue
        harness = run.harness
        if not run.is_agent:
            who = "a tool of" if run.kind == "session" else "a model of"
            message = f"`{run.shown}` calls {who} {harness.title} in the flow's body: {_NOTHING}"
            help = "call it in a checkpoint, whose result is recorded"
            if run.kind in ("client", "model"):
                help += ", or use `kitaru.llm`"
            elif harness.fix:
                help = _with_adapter(harness)
            yield (MODEL_CALL_NOT_DURABLE, message, help, ""), run.call
            continue
        message = f"`{run.shown}` runs an agent of {harness.title} in the flow's body: {_NOTHING}"
        maker = run.thing.maker if run.thing is not None else None
        if maker is not None and maker.kind == "builder":
            message = f"`{run.shown}` runs a graph of {harness.title} in the flow's body: {_NODES}"
        help = "run it in a checkpoint: its result is recorded, the calls in it are not"
        if harness.fix:
            help = _with_adapter(harness)
        yield (AGENT_NOT_DURABLE, message, help, _variable(run.thing)), run.call


def _with_adapter(harness: Harness) -> str:
    import_line, change = harness.fix
    return f"`{import_line}`, then `{change}`"


def _variable(thing: Thing | None) -> str:
    return thing.variable if thing is not None else ""


def durable_agent_in_checkpoint(body: Body) -> Iterator[Diagnostic]:
    """Find durable agents that run in a checkpoint."""
    for run in agents_of(body).runs(body.source, body.definition):
        if run.durable and run.is_agent:
            message = (
                f"`{run.shown}` runs in checkpoint `{body.definition.name}`: the agent's calls are "
                "one record together"
            )
            help = "run the agent in the flow's body, or leave the adapter out"
            yield body.find(AGENT_IN_CHECKPOINT, run.call, message, help=help)


def agent_names(body: Body) -> Iterator[Diagnostic]:
    """Find durable agents without a name, and different agents with one name."""
    agents = agents_of(body)
    first: dict[str, ast.Call] = {}
    for run in _durable_runs(body):
        thing = run.thing
        assert thing is not None
        call = thing.call
        if call is None or thing.maker is None or thing.maker.kind == "builder":
            continue
        agent = agents.agent(thing)
        span = thing.source.span(call)
        if not agent.is_named:
            message = f"the agent of `{run.shown}` has no name: its records are called `agent`"
            yield Diagnostic(
                AGENT_NAME,
                span,
                message,
                help=f'name it: `name="{thing.variable or "clerk"}"`',
                replacement=thing.variable,
            )
        elif first.setdefault(agent.name, call) is not call:
            message = f"another agent of this flow is called {agent.name!r}, too"
            yield Diagnostic(AGENT_NAME, span, message, help="give each agent a name of its own")


def _durable_runs(body: Body) -> Iterator[Run]:
    """Yield the runs of durable agents in a function and its helpers."""
    pending, seen = [body], {body.definition}
    while pending:
        one = pending.pop(0)
        for run in agents_of(one).runs(one.source, one.definition):
            if run.durable and run.is_agent and run.thing is not None:
                yield run
        for _, helper in one.helpers:
            if helper.definition not in seen:
                seen.add(helper.definition)
                pending.append(helper)


def two_journals(body: Body) -> Iterator[Diagnostic]:
    """Find graphs with a `KitaruSaver` that the flow runs."""
    for run in agents_of(body).runs(body.source, body.definition):
        if run.thing is not None and run.thing.keeps:
            message = (
                f"`{run.shown}` continues from the state in its KitaruSaver, which is newer than "
                "the journal after a crash"
            )
            help = "leave the checkpointer out, or use LangGraph's InMemorySaver"
            yield body.find(TWO_JOURNALS, run.call, message, help=help)


def tools_with_resources(body: Body) -> Iterator[Diagnostic]:
    """Find tools that are checkpoints with resources or a process of their own."""
    agents = agents_of(body)
    for run in agents.runs(body.source, body.definition):
        if not run.is_agent or run.thing is None:
            continue
        agent = agents.agent(run.thing)
        for tool in agent.tools:
            asked = _asked(tool.options) if tool.options else ""
            if asked:
                message = (
                    f"the tool `{tool.name}` asks for {asked}: the whole step of agent "
                    f"`{agent.name}` gets it"
                )
                if tool.options and tool.options.runtime == "isolated":
                    message = (
                        f"the tool `{tool.name}` is isolated, but agent `{agent.name}` calls it "
                        "in its own process"
                    )
                help = f"call `{tool.name}` from the flow with what the agent decided"
                yield body.find(TOOL_WITHOUT_OWN_STEP, run.call, message, help=help)


def _asked(options: CheckpointOptions) -> str:
    parts = [
        f"{options.gpu} GPU" if options.gpu else "",
        f"cpu {options.cpu}" if options.cpu else "",
        f"memory {options.memory}" if options.memory else "",
        "a process of its own" if options.runtime == "isolated" else "",
    ]
    return ", ".join(part for part in parts if part)


def toolsets(body: Body) -> Iterator[Diagnostic]:
    """Find MCP toolsets without an id in durable agents."""
    agents = agents_of(body)
    found: set[ast.Call] = set()
    for run in _durable_runs(body):
        thing = run.thing
        if thing is None or thing.call is None:
            continue
        for tool in agents.agent(thing).tools:
            if not isinstance(tool.node, ast.expr):
                continue
            toolset = agents.thing(tool.node, thing.source)
            if toolset is None or toolset.kind != "toolset" or toolset.call is None:
                continue
            if toolset.call in found or any(k.arg in ("id", None) for k in toolset.call.keywords):
                continue
            found.add(toolset.call)
            message = f"the toolset `{tool.name}` has no id"
            help = f'name it: `id="{toolset.variable or "shop"}"`'
            span = toolset.source.span(toolset.call)
            yield Diagnostic(
                TOOLSET_WITHOUT_ID, span, message, help=help, replacement=toolset.variable
            )


def blocking_runs(body: Body) -> Iterator[Diagnostic]:
    """Find blocking runs of agents, and `asyncio.run`, in an async flow."""
    agents = agents_of(body)
    waiting = {node.value for node in body.nodes if isinstance(node, ast.Await)}
    for run in agents.runs(body.source, body.definition):
        other = _AWAITABLE.get(run.method)
        if run.is_agent and other and run.call not in waiting and not run.is_coroutine:
            message = f"`{run.shown}` blocks the event loop, and all other tasks of the flow"
            shown = f"{run.shown.rpartition('.')[0]}.{other}"
            yield body.find(
                LOOP_IN_LOOP, run.call, message, help=f"await it: `await {shown}(…)`",
                replacement=other,
            )  # fmt: skip
    for node in body.nodes:
        if isinstance(node, ast.Call) and body.outside(node.func) == "asyncio.run":
            message = "`asyncio.run` fails in the event loop of an async flow"
            yield body.find(LOOP_IN_LOOP, node, message, help="await the coroutine itself")
