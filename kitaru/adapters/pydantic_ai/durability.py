"""The capability that makes an agent of Pydantic AI durable in flows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import WrapModelRequestHandler, WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationBackend,
    conversation_id_from_run_id,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import (
    AgentDepsT,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolDenied,
)

from kitaru import harness
from kitaru.adapters.pydantic_ai.operations import METADATA_KEY, Backend, Run, note_usage
from kitaru.errors import ContextError

# The runs that the current task is in, by run id. Tasks of a run inherit it.
_runs: ContextVar[Mapping[str, Run]] = ContextVar(
    "kitaru_pydantic_ai_runs", default=MappingProxyType({})
)


class KitaruDurability(BaseDurabilityCapability[AgentDepsT]):
    """Record the model requests and tool calls of an agent in flows, and wait for approvals.

    Each run of the agent is a scope with the agent's name. A tool call is one step; its id contains
    the id of the call. A tool that makes durable calls of its own, such as one that runs another
    durable agent or calls `kitaru.wait`, needs `metadata={"kitaru": False}`; checkpoints are
    recognized. Its calls are then recorded one by one, and the tool's own code runs again when the
    execution resumes.

    Args:
        models: more models by key, for `agent.run(model=key)`.
        event_stream_handler: receives the events of a run live. An event of a recorded step is not
            passed again.
        name: name of the scope. Default: the agent's name. Agents that run concurrently need
            different names, or tasks of their own.
        waits: whether the flow waits for approvals and for results of external tools. Default:
            true. If false, the run ends with `DeferredToolRequests`, as without Kitaru.

    Example:
        agent = Agent("openai:gpt-4o", name="triage", capabilities=[KitaruDurability()])

        @flow
        async def answer(question: str) -> str:
            return (await agent.run(question)).output
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="Kitaru",
        durable_unit_noun="step",
        durable_container_noun="flow",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            # A replay that calls no tool starts no server.
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA_KEY,
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        waits: bool = True,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self.waits = waits

    @property
    def in_durable_context(self) -> bool:
        """Whether a flow's body runs the agent."""
        return harness.current_execution() is not None

    def get_durable_operation_backend(self) -> DurableOperationBackend[None]:
        """Return what runs the agent's operations as steps."""
        return Backend(self._run_of)

    def get_default_run_id(self) -> str | None:
        """Return an id that is the same in every replay of the flow."""
        found = harness.current_execution()
        if found is None:
            self._check_not_in_a_step()
            return None
        return self._opened(found.exec_id).run_id

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return an id that is the same in every replay of the flow."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """Return when the run first started, to which its time limit is relative."""
        if not self.in_durable_context:
            return None

        async def now() -> str:
            return datetime.now(UTC).isoformat()

        run = _runs.get().get(run_id) or self._opened(run_id, run_id)
        with run.scope:
            return datetime.fromisoformat(await harness.step("start", now))

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractCapability[AgentDepsT]:
        """Open the scope of a run whose id the caller has chosen."""
        if self.in_durable_context and ctx.run_id is not None and ctx.run_id not in _runs.get():
            self._opened(ctx.run_id, ctx.run_id)
        return await super().for_run(ctx)

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Close the scope of a run at its end."""
        try:
            return await super().wrap_run(ctx, handler=handler)
        finally:
            if (run := _runs.get().get(ctx.run_id or "")) is not None:
                run.is_over = True

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        """Make a request as a step; in a checkpoint, record it with the checkpoint."""
        response = await super().wrap_model_request(
            ctx, request_context=request_context, handler=handler
        )
        if not self.in_durable_context:
            # Outside of flows there is nothing to record it with.
            with suppress(ContextError):
                note_usage(response, request_context.messages)
        return response

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Wait until somebody approves or denies tool calls, or answers external ones."""
        if not (self.waits and self.in_durable_context):
            return None
        run = self._run_of(ctx)
        asked: list[tuple[ToolCallPart, Any, str]]
        asked = [(call, bool, "approve") for call in requests.approvals]
        # Any JSON is an answer.
        asked += [(call, {}, "answer") for call in requests.calls]
        with run.scope:
            waits = [
                harness.wait(
                    name=f"{verb}-{call.tool_name}",
                    question=_question(call, verb),
                    schema=schema,
                    metadata={"tool": call.tool_name, "arguments": call.args_as_dict()},
                    key=f"{verb}-{call.tool_name}-{call.tool_call_id}",
                )
                for call, schema, verb in asked
            ]
        answers = await asyncio.gather(*waits)
        results = DeferredToolResults()
        for (call, _, verb), answer in zip(asked, answers, strict=True):
            if verb == "approve":
                results.approvals[call.tool_call_id] = True if answer else ToolDenied()
            else:
                results.calls[call.tool_call_id] = answer
        return results

    def _opened(self, exec_id: str, run_id: str = "") -> Run:
        """Open the scope of a run. The run id contains the path of the scope unless it is given."""
        scope = harness.scope(self.name)
        run = Run(scope, run_id or f"{exec_id}:{scope.path}")
        _runs.set(
            {id: one for id, one in _runs.get().items() if not one.is_over} | {run.run_id: run}
        )
        return run

    def _run_of(self, ctx: RunContext[Any] | None) -> Run:
        found = _runs.get().get((ctx.run_id if ctx is not None else None) or "")
        if found is None:
            raise UserError(
                f"The agent {self.name} makes a durable call outside of its run. In a flow, run it "
                "with run, run_sync, run_stream or iter."
            )
        return found

    def _check_not_in_a_step(self) -> None:
        step = harness.current_step()
        if step is not None:
            raise UserError(
                f"The agent {self.name} runs inside the step {step}, which is one recorded unit: a "
                "resume would neither repeat its calls nor count their usage. Mark the tool that "
                f'runs it with metadata={{"{METADATA_KEY}": False}}, for example '
                f'@agent.tool(metadata={{"{METADATA_KEY}": False}}). Then each call of '
                f"{self.name} is recorded."
            )


def _question(call: ToolCallPart, verb: str) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in call.args_as_dict().items())
    asked = "Run" if verb == "approve" else "What is the result of"
    return f"{asked} {call.tool_name}({shown})?"
