"""A small agent loop and its adapter, written with `kitaru.harness` alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from kitaru import aio, harness
from kitaru.testing.adapters import Agent, Call, Feature, Harness, Outcome, Tool, Turn, Unavailable


class Loop(Harness):
    """Calls a scripted model until it returns a text."""

    packages = ("json",)
    unsupported: ClassVar[Mapping[Feature, str]] = {
        "sync": "The loop is async.",
        "guard": "The loop has no guardrails.",
        "messages": "The loop has no messages.",
        "versions": "The loop has one version.",
    }

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        key, history = f"session/{session}", list[str]()
        if session:
            history = [*await aio.memory.get(key, []), prompt]
        if harness.current_execution() is None:
            return Outcome(*await Plain().talk(agent, state), state)
        with harness.scope(agent.name):
            text, tokens = await self.talk(agent, state)
        if session:
            history.append(text)
            await aio.memory.set(key, history)
        return Outcome(text, tokens, state, history)

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        with harness.scope(agent.name):
            text, _ = await self.talk(agent, None)
        for word in text.split():
            yield f"{word} "

    async def talk(self, agent: Agent, state: dict[str, Any] | None) -> tuple[str, int]:
        """Return the last text of an agent, and its tokens with those of nested agents."""
        answered, total = list[str](), 0
        for _ in agent.turns:
            turn = await self.request(agent, list(answered))
            total += turn.input_tokens + turn.output_tokens
            if not turn.calls:
                return turn.text, total
            used = await asyncio.gather(*[self.use(agent, call, state) for call in turn.calls])
            total += sum(used)
            answered += [call.id for call in turn.calls]
        raise AssertionError("the script has no last text")

    async def request(self, agent: Agent, answered: list[str]) -> Turn:
        """Make a request to the model, again if it is not available."""
        for left in range(agent.requests - 1, -1, -1):
            try:
                return await self.step_of_model(agent, answered)
            except Unavailable:
                if not left:
                    raise
        raise AssertionError

    async def step_of_model(self, agent: Agent, answered: list[str]) -> Turn:
        async def respond() -> dict[str, Any]:
            turn = await agent.respond(answered)
            harness.usage(input_tokens=turn.input_tokens, output_tokens=turn.output_tokens)
            harness.emit(turn.text)
            calls = [[call.tool, call.item, call.id] for call in turn.calls]
            return {"text": turn.text, "calls": calls, "in": turn.input_tokens,
                    "out": turn.output_tokens}  # fmt: skip

        answer = await harness.step("model", respond, kind="llm")
        calls = tuple(Call(*call) for call in answer["calls"])
        return Turn(answer["text"], calls, answer["in"], answer["out"])

    async def use(self, agent: Agent, call: Call, state: dict[str, Any] | None) -> int:
        """Run a tool or a nested agent; return the tokens of the latter."""
        for nested in agent.agents:
            if nested.name == call.tool:
                return await self.nest(nested, call)
        (tool,) = (tool for tool in agent.tools if tool.name == call.tool)
        if tool.approval and not await self.approve(call):
            return 0
        if tool.has_own_calls:
            with harness.scope(call.tool, key=call.id, tasks=True):
                await tool.function(call.item)
        else:
            await self.step_of_tool(tool, call, state)
        return 0

    async def approve(self, call: Call) -> bool:
        name = f"approve-{call.tool}"
        return bool(await harness.wait(name=name, key=f"{name}-{call.id}", schema=bool))

    async def nest(self, agent: Agent, call: Call) -> int:
        with harness.scope(call.tool, key=call.id):
            return (await self.talk(agent, None))[1]

    async def step_of_tool(self, tool: Tool, call: Call, state: dict[str, Any] | None) -> None:
        async def run() -> Any:
            if tool.changes_state:
                changed = dict(state or {})
                await tool.function(call.item, changed)
                return changed
            done = tool.function(call.item)
            return await done if tool.is_async else done

        value = await harness.step(tool.name, run, key=f"{tool.name}-{call.id}", kind="tool")
        if tool.changes_state and state is not None:
            state.update(value)


class Plain(Loop):
    """The loop without its adapter."""

    async def step_of_model(self, agent: Agent, answered: list[str]) -> Turn:
        return await agent.respond(answered)

    async def step_of_tool(self, tool: Tool, call: Call, state: dict[str, Any] | None) -> None:
        done = tool.function(call.item)
        if tool.is_async:
            await done

    async def nest(self, agent: Agent, call: Call) -> int:
        return (await self.talk(agent, None))[1]


class Unrecorded(Loop):
    """Its tools run again after a resume."""

    async def step_of_tool(self, tool: Tool, call: Call, state: dict[str, Any] | None) -> None:
        await Plain().step_of_tool(tool, call, state)


class Numbered(Loop):
    """Its ids depend on the time that the tools take."""

    numbers = 0

    async def step_of_tool(self, tool: Tool, call: Call, state: dict[str, Any] | None) -> None:
        async def run() -> Any:
            done = tool.function(call.item)
            return await done if tool.is_async else done

        await asyncio.to_thread(lambda: None)
        Numbered.numbers += 1
        await harness.step(tool.name, run, key=f"call-{Numbered.numbers}", kind="tool")


class Hasty(Loop):
    """It runs a tool before its approval."""

    async def use(self, agent: Agent, call: Call, state: dict[str, Any] | None) -> int:
        (tool,) = (tool for tool in agent.tools if tool.name == call.tool)
        await self.step_of_tool(tool, call, state)
        if tool.approval:
            await self.approve(call)
        return 0


class Forgetful(Loop):
    """A resume does not repeat what its tools did to the state."""

    async def step_of_tool(self, tool: Tool, call: Call, state: dict[str, Any] | None) -> None:
        async def run() -> Any:
            return await tool.function(call.item, state)

        await harness.step(tool.name, run, key=f"{tool.name}-{call.id}", kind="tool")


class Whole(Loop):
    """A nested agent is one record, so its tokens are lost after a resume."""

    async def nest(self, agent: Agent, call: Call) -> int:
        spent = list[int]()

        async def run() -> str:
            text, tokens = await Plain().talk(agent, None)
            spent.append(tokens)
            return text

        await harness.step(call.tool, run, key=call.id)
        return sum(spent)


class Doubling(Loop):
    """Both the loop and its step retry a request."""

    async def step_of_model(self, agent: Agent, answered: list[str]) -> Turn:
        try:
            return await super().step_of_model(agent, answered)
        except Unavailable:
            return await super().step_of_model(agent, answered)
