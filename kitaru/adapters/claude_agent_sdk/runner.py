"""Run Claude in a flow: each turn and each call of a tool is a record, a deferred tool a wait.

    run(prompt)  ->  coder.turn                     up to the call of a tool, or to the result
                     coder.mcp__shop__buy-toolu_1   the call
                     coder.turn_2                   up to the next call, or to the result
                     coder.approve-<call>           the wait for a person

The next attempt at a turn whose process died continues its transcript.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKError,
    DeferredToolUse,
    ResultMessage,
    query,
)

from kitaru import harness
from kitaru.adapters.claude_agent_sdk.process import Process, Task, with_servers
from kitaru.adapters.claude_agent_sdk.sessions import Attempts, KitaruSessionStore
from kitaru.adapters.claude_agent_sdk.tools import (
    Call,
    Calls,
    Tools,
    by_full_name,
    makes_durable_calls,
    outcome,
    servers,
)
from kitaru.errors import ContextError, UsageError

_VERSION = f"claude-agent-sdk {version('claude-agent-sdk')}"


class KitaruClaudeRunner:
    """Runs Claude; in a flow, each turn and each call of a tool is recorded once.

    Outside of flows, and inside checkpoints, it is `query`. Messages of a running turn are live
    events for `kitaru.harness.listen`.

    Args:
        options: the options of each run. `session_store` and `session_id` are set by the runner;
            the other ones, such as hooks, apply as usual.
        name: name of the agent, with which the ids of its records begin.
        ask: names of tools, such as `Bash`. A person approves each call of them: the flow waits
            for true or false. Rules of `allowed_tools` for these tools do not apply.
        tools: tools of this process by the name of their server, instead of
            `create_sdk_mcp_server`. Mark those that make durable calls themselves with
            `flow_tool`.

    Raises:
        UsageError: the options contain a session store, the id of a session, or an SDK MCP server.

    Example:
        coder = KitaruClaudeRunner(
            ClaudeAgentOptions(model="…"), name="coder", ask=["Bash"], tools={"shop": [price, buy]}
        )

        @flow
        async def fix(problem: str) -> str:
            return (await coder.run(problem)).result
    """

    def __init__(
        self,
        options: ClaudeAgentOptions,
        *,
        name: str = "claude",
        ask: Collection[str] = (),
        tools: Tools | None = None,
    ) -> None:
        if options.session_store is not None or options.session_id is not None:
            raise UsageError(
                "The options of KitaruClaudeRunner contain session_store or session_id.",
                help="Leave them out: in a flow, the execution's store keeps the sessions.",
            )
        given = options.mcp_servers if isinstance(options.mcp_servers, dict) else {}
        if own := [name for name, server in given.items() if server.get("type") == "sdk"]:
            raise UsageError(
                f"The options contain the SDK MCP server {own[0]}, whose calls would run again "
                "when an execution resumes.",
                help="Pass its tools to the runner: "
                f"KitaruClaudeRunner(options, tools={{{own[0]!r}: [the tools]}}).",
            )
        self._options, self._name, self._ask = options, name, frozenset(ask)
        self._tools = dict(tools or {})

    async def run(self, prompt: str, *, resume: str | None = None) -> ResultMessage:
        """Run Claude until it is done.

        Args:
            prompt: the user's message.
            resume: `session_id` of the result of an earlier run, to continue its conversation.
                The earlier session does not change. Default: the options' `resume`.

        Raises:
            ContextError: the runner has tools to `ask` about, and the call is outside of a flow's
                body.
            ClaudeSDKError: the command line tool cannot be started, or the model does not answer.
        """
        resume = resume or self._options.resume
        found = harness.current_execution()
        if found is None and self._ask:
            raise ContextError(
                f"The agent {self._name} runs outside of a flow's body, where nobody can be asked.",
                help="Run it in the body of a flow, or leave out `ask`.",
            )
        if found is None:
            served = with_servers(self._options, servers(self._tools))
            options = replace(self._options, resume=resume, mcp_servers=served)
            return await _last(query(prompt=prompt, options=options))
        with harness.scope(self._name):
            run = _Run(Task(self._options, self._tools, self._ask, prompt, resume), found)
            try:
                return await run.result()
            finally:
                await run.close()


class _Run:
    """A run in a flow's body."""

    def __init__(self, task: Task, execution: harness.Execution) -> None:
        self._task, self._execution = task, execution
        self._sessions = KitaruSessionStore(execution.store)
        self._calls = Calls()
        self._own = by_full_name(task.tools)
        self._running: set[asyncio.Task[None]] = set()
        self._process: Process | None = None

    async def result(self) -> ResultMessage:
        """Run turns and tools, up to the last result."""
        while True:
            found = await self._turn()
            if isinstance(found, Call):
                await self._call(found)
                continue
            await self._ended()
            deferred = found.deferred_tool_use
            if deferred is None:
                return found
            await self._stop()
            answer = await _approval(deferred)
            self._task.answers[deferred.id] = answer
            self._task.deferred = deferred.id, deferred.name, deferred.input
            self._task.resume = found.session_id

    async def close(self) -> None:
        """End what still runs."""
        for task in self._running:
            task.cancel()
        await self._stop()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    # Turns

    async def _turn(self) -> Call | ResultMessage:
        """Return what ended the next turn. A tool that fails ends the run meanwhile."""
        step = harness.step("turn", self._next, version=_VERSION, read=_turn_of)
        turn = asyncio.ensure_future(step)
        try:
            await asyncio.wait({turn, *self._running}, return_when=asyncio.FIRST_EXCEPTION)
            self._raise_failed()
            kind, value = await turn
        finally:
            turn.cancel()
        return self._calls.add(*value) if kind == "call" else value

    async def _next(self) -> Any:
        if self._process is None:
            step = harness.current_step()
            assert step is not None
            # Later turns of a run continue the sessions of its first one.
            home = f"{step.rpartition('.')[0]}.turn"
            await self._calls.settle()
            process = Process(self._task, self._calls, self._sessions)
            await process.start(Attempts(self._execution.store, self._execution.exec_id, home))
            self._process = process
        found = await self._process.next()
        if isinstance(found, Call):
            return {"call": [found.id, found.name, found.arguments]}
        return {"result": asdict(found)}

    # Tools

    async def _call(self, call: Call) -> None:
        tool = self._own.get(call.name)
        if tool is not None and makes_durable_calls(tool):
            # A tool that waits for a person suspends the execution, which no turn may hold.
            if not harness.is_checkpoint(tool.handler):
                await self._ended()
                await self._stop()
            with harness.scope(call.name, key=f"{call.name}-{call.id}", tasks=True):
                call.record(await outcome(tool, call.arguments))
            return
        task = asyncio.ensure_future(self._tool(call))
        self._running.add(task)

    async def _tool(self, call: Call) -> None:
        tool = self._own.get(call.name)

        async def body() -> Any:
            call.is_settled.set()
            ended = await call.start
            if ended is not None or tool is None:
                return ended
            return await outcome(tool, call.arguments)

        key = f"{call.name}-{call.id}"
        try:
            value = await harness.step(
                call.name, body, key=key, kind="tool", arguments=call.arguments, version=_VERSION
            )
        except ContextError as error:
            raise UsageError(
                f"The tool {call.name} makes durable calls itself, so it cannot be one record.",
                help="Let it run in the flow's body: put @flow_tool above @tool.",
            ) from error
        call.record(value)

    async def _ended(self) -> None:
        if self._running:
            await asyncio.wait(self._running)
        self._raise_failed()

    def _raise_failed(self) -> None:
        for task in [task for task in self._running if task.done()]:
            self._running.discard(task)
            task.result()


def _turn_of(recorded: dict[str, Any]) -> tuple[str, Any]:
    """Return what ended a recorded turn."""
    ((kind, value),) = recorded.items()
    return kind, value if kind == "call" else _result(value)


def _result(recorded: dict[str, Any]) -> ResultMessage:
    """Return a recorded result, without the fields that this version of the SDK does not have."""
    known = {one.name for one in fields(ResultMessage)}
    given = {name: value for name, value in recorded.items() if name in known}
    if given.get("deferred_tool_use") is not None:
        given["deferred_tool_use"] = DeferredToolUse(**given["deferred_tool_use"])
    return ResultMessage(**given)


async def _approval(call: DeferredToolUse) -> bool:
    shown = ", ".join(f"{name}={value!r}" for name, value in call.input.items())
    return bool(
        await harness.wait(
            name=f"approve-{call.name}",
            question=f"Run {call.name}({shown})?",
            schema=bool,
            metadata={"tool": call.name, "arguments": call.input},
            key=f"approve-{call.name}-{call.id}",
        )
    )


async def _last(messages: AsyncIterator[Any]) -> ResultMessage:
    found = [message async for message in messages if isinstance(message, ResultMessage)]
    if not found:
        raise ClaudeSDKError("Claude ended without a result.")
    return found[-1]
