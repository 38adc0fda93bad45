"""Run agents of the SDK in flows: `Runner`, whose calls are recorded and whose approvals are waits.

An agent as a tool, a guardrail and a `flow_tool` call the SDK's own `Runner` for the agents inside.
The default runner of the process therefore becomes one that makes the runs inside a recorded run
durable, too. It leaves all other runs to the runner that was the default before.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from agents import (
    Agent,
    Model,
    RunConfig,
    RunContextWrapper,
    RunResult,
    RunState,
    ToolApprovalItem,
)
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner

from kitaru import harness
from kitaru.adapters.openai_agents.copies import Copies, guarded
from kitaru.adapters.openai_agents.models import RecordedProvider, recorded
from kitaru.adapters.openai_agents.runs import Run, current_run
from kitaru.errors import ContextError, UsageError

_ANSWER = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "approve": {"type": "boolean"},
                "always": {"type": "boolean"},
                "message": {"type": "string"},
            },
            "required": ["approve"],
            "additionalProperties": False,
        },
    ]
}
# Arguments of the first run that the SDK restores itself when it continues after an interruption.
_FIRST = ("previous_response_id", "auto_previous_response_id", "conversation_id")


class KitaruRunner:
    """Runs an agent like the SDK's `Runner`, with the same arguments.

    In the body of a flow, each run is a scope with the name of the agent. A model request and a
    call of a function tool is a record in it, also in agents that the agent hands over to or that
    run as tools or guardrails. A call that is recorded does not run again. A tool that needs an
    approval suspends the execution; several approvals of a turn are pending at once.

    In a checkpoint, the requests are recorded with the checkpoint. Outside of flows, nothing is
    recorded.

    Example:
        agent = Agent(name="support", model="gpt-5", tools=[order, refund])

        @flow
        async def support(request: str) -> str:
            result = await KitaruRunner.run(agent, request)
            return result.final_output
    """

    @classmethod
    async def run(cls, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        """Run an agent to its end; see `agents.Runner.run`.

        Raises:
            UsageError: a tool cannot be recorded, or `input` is a `RunState`.
        """
        return await _durable().run(starting_agent, input, **options)

    @classmethod
    def run_sync(cls, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        """Run an agent in a flow that is not async; see `agents.Runner.run_sync`."""
        return _durable().run_sync(starting_agent, input, **options)

    @classmethod
    def run_streamed(cls, starting_agent: Agent[Any], input: Any, **options: Any) -> Any:
        """Run an agent and stream its events; see `agents.Runner.run_streamed`.

        In a flow, a response is streamed when it is recorded, its text in one piece. The live
        events of the model go to the handlers of `kitaru.harness.listen`.
        """
        return _durable().run_streamed(starting_agent, input, **options)


class _DurableRunner(AgentRunner):
    """Makes all runs durable, or only those inside of a recorded run."""

    def __init__(self, before: AgentRunner, *, only_inside: bool = False) -> None:
        self.before, self._only_inside = before, only_inside

    async def run(self, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        if not self._is_durable():
            return await self.before.run(starting_agent, input, **options)
        return await _Started(self.before, starting_agent, input, options).run()

    def run_sync(self, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        if not self._is_durable():
            return self.before.run_sync(starting_agent, input, **options)
        # It calls `run`, on the event loop that the SDK keeps for the thread.
        return super().run_sync(starting_agent, input, **options)

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **options: Any) -> Any:
        if not self._is_durable():
            return self.before.run_streamed(starting_agent, input, **options)
        return _Stream(_Started(self.before, starting_agent, input, options))

    def _is_durable(self) -> bool:
        return current_run.get() is not None if self._only_inside else _in_flow()


def _durable() -> _DurableRunner:
    """Return what runs durably, and let the runs inside of its runs be durable, too."""
    before = get_default_agent_runner()
    if isinstance(before, _DurableRunner):
        before = before.before
    else:
        set_default_agent_runner(_DurableRunner(before, only_inside=True))
    return _DurableRunner(before)


def _in_flow() -> bool:
    """Return whether a flow, one of its checkpoints or a step runs."""
    if harness.current_execution() is not None:
        return True
    try:
        harness.attributes()
    except ContextError:
        return False
    return True


class _Started:
    """A run that has begun: the copy of its agent, and its scope where calls are recorded."""

    def __init__(
        self, before: AgentRunner, agent: Agent[Any], input: Any, options: dict[str, Any]
    ) -> None:
        self._before, self._input = before, input
        self._agent = Copies().agent(agent)
        execution = harness.current_execution()
        self._run = None if execution is None else Run(agent.name)
        given = options.get("run_config")
        # The SDK closes the provider of a run that has none of its own.
        self._owns_provider = given is None or (
            isinstance(given, dict) and "model_provider" not in given
        )
        self._config = _config(given, "" if execution is None else execution.exec_id)
        self._options = {**options, "run_config": self._config}
        if execution is not None and isinstance(input, RunState):
            raise UsageError(
                "A RunState is not part of the journal, so a run in a flow cannot begin with it.",
                help="Pass the input itself: KitaruRunner waits for approvals and continues.",
            )

    async def run(self) -> RunResult:
        """Run the agent to its end, and wait for its approvals."""
        try:
            with self._entered():
                result = await self._before.run(self._agent, self._input, **self._options)
            while self._waits_for(result):
                state = await self._decided(result)
                with self._entered():
                    result = await self._before.run(self._agent, state, **self._again())
            return result
        finally:
            await self.close()

    def stream(self) -> Any:
        """Begin a stream. The SDK starts its tasks at once, so they must be in the scope."""
        with self._entered():
            return self._before.run_streamed(self._agent, self._input, **self._options)

    async def continued(self, result: Any) -> Any:
        """Wait for the approvals of a stream that has ended; return the next stream, or None."""
        if not self._waits_for(result):
            return None
        state = await self._decided(result)
        with self._entered():
            return self._before.run_streamed(self._agent, state, **self._again())

    async def close(self) -> None:
        """Close the provider of models if the run has created it."""
        if self._owns_provider:
            await self._config.model_provider.aclose()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._run is None:
            yield
            return
        token = current_run.set(self._run)
        try:
            with self._run.scope:
                yield
        finally:
            current_run.reset(token)

    def _waits_for(self, result: Any) -> bool:
        return self._run is not None and bool(result.interruptions)

    def _again(self) -> dict[str, Any]:
        return {name: value for name, value in self._options.items() if name not in _FIRST}

    async def _decided(self, result: Any) -> RunState[Any]:
        """Wait until somebody has decided about each tool call of a turn."""
        run = self._run
        assert run is not None
        state: RunState[Any] = result.to_state()
        asked: list[ToolApprovalItem] = list(result.interruptions)
        with run.scope:
            waits = [_wait(run, item) for item in asked]
        for item, answer in zip(asked, await asyncio.gather(*waits), strict=True):
            _decide(state, item, answer)
        context = self._options.get("context")
        if isinstance(context, RunContextWrapper) and state._context is not None:
            # An agent as a tool counts in the usage of the outer run, and the state has a copy.
            state._context.usage = context.usage
        return state


def _config(given: RunConfig | dict[str, Any] | None, exec_id: str) -> RunConfig:
    """Return a copy of the configuration of a run, whose models and guardrails record."""
    config = RunConfig(**given) if isinstance(given, dict) else copy.copy(given or RunConfig())
    if isinstance(config.model, Model):
        config.model = recorded(config.model)
    if not isinstance(config.model_provider, RecordedProvider):
        config.model_provider = RecordedProvider(config.model_provider)
    for name in ("input_guardrails", "output_guardrails"):
        if guards := getattr(config, name):
            setattr(config, name, [guarded(one) for one in guards])
    if exec_id:
        config.trace_metadata = {"kitaru_execution": exec_id, **(config.trace_metadata or {})}
    return config


# Approvals


def _wait(run: Run, item: ToolApprovalItem) -> Any:
    name = item.name or "tool"
    call: Any = item.raw_item if isinstance(item.raw_item, dict) else vars(item.raw_item)
    try:
        arguments = json.loads(item.arguments or "{}")
    except ValueError:
        arguments = item.arguments
    shown = arguments
    if isinstance(arguments, dict):
        shown = ", ".join(f"{one}={value!r}" for one, value in arguments.items())
    return harness.wait(
        name=f"approve-{name}",
        question=f"Run {name}({shown})?",
        schema=_ANSWER,
        metadata={"agent": item.agent.name, "tool": name, "arguments": arguments},
        key=run.key("approve", name, call.get("call_id") or call.get("id")),
    )


def _decide(state: RunState[Any], item: ToolApprovalItem, answer: Any) -> None:
    if isinstance(answer, str):
        answer = {"approve": False, "message": answer}
    elif isinstance(answer, bool):
        answer = {"approve": answer}
    always = answer.get("always", False)
    if answer["approve"]:
        state.approve(item, always_approve=always)
    else:
        state.reject(item, always_reject=always, rejection_message=answer.get("message"))


class _Stream:
    """A streamed run that waits for its approvals. The rest is that of the SDK's own result."""

    def __init__(self, started: _Started) -> None:
        self._started = started
        self._result = started.stream()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    async def stream_events(self) -> AsyncIterator[Any]:
        """Yield the events of the run; see `agents.RunResultStreaming.stream_events`."""
        try:
            while True:
                async with aclosing(self._result.stream_events()) as events:
                    async for event in events:
                        yield event
                following = await self._started.continued(self._result)
                if following is None:
                    return
                self._result = following
        finally:
            await self._started.close()
