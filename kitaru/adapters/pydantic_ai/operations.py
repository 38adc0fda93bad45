"""Run the durable operations of Pydantic AI as steps.

model request       triage.model, triage.model_2
tool call           triage.refund-call_x1
tool of its own     triage.research-call_x2.…     a scope: the tool makes durable calls itself
MCP server          triage.shop-tools, triage.search-call_x3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, Generic, Literal, TypeVar

from pydantic_ai import FunctionToolset
from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    CapabilityOperationId,
    DurableOperation,
    DurableOperationBackend,
    DynamicToolsetCallToolParams,
    EventStreamHandlerParams,
    ModelCancelSuspendedResponseParams,
    ModelCompactMessagesParams,
    ModelRequestParams,
    ToolsetCallToolId,
    ToolsetCallToolParams,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
    durable_unit_scope,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.tools import RunContext
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from kitaru import harness

P = TypeVar("P")
W = TypeVar("W")
R = TypeVar("R")

METADATA_KEY = "kitaru"
"""Tools with the metadata `{"kitaru": False}` run outside of a step."""


class Run:
    """One run of an agent: its scope, and the tool calls that it has made.

    Some models and tests use the id of a tool call more than once. A later step of the run then
    appends its number.
    """

    def __init__(self, scope: harness.scope, run_id: str) -> None:
        self.scope = scope
        self.run_id = run_id
        self.is_over = False
        # The tools that run outside of a step now, and those that have begun.
        self.inline = self.inline_begun = 0
        self._steps: dict[str, int] = {}

    def key_of(self, name: str, ctx: RunContext[Any]) -> str:
        """Return the key of a call of the tool `name`."""
        key = f"{name}-{ctx.tool_call_id}" if ctx.tool_call_id else f"{name}-{ctx.run_step}"
        # A tool that asks for approval is called again with the same id.
        key += "-approved" if ctx.tool_call_approved else ""
        first = self._steps.setdefault(key, ctx.run_step)
        return key if first == ctx.run_step else f"{key}-{ctx.run_step}"

    @contextmanager
    def changing_deps(self) -> Iterator[None]:
        """Enclose a tool that runs again after a resume, and so may change the dependencies."""
        self.inline += 1
        self.inline_begun += 1
        try:
            yield
        finally:
            self.inline -= 1

    @contextmanager
    def keeping_deps(self, ctx: RunContext[Any] | None, name: str) -> Iterator[None]:
        """Raise UserError if a step changes the dependencies: a resume would not change them."""
        before, begun = _document(ctx), self.inline_begun
        is_alone = not self.inline
        yield
        is_alone = is_alone and begun == self.inline_begun
        if before is not None and is_alone and _document(ctx) != before:
            raise UserError(
                f"{name} changed the dependencies of the run (deps). Its call is a recorded step, "
                "which does not run again when the execution resumes, so the change would be "
                "missing then. Return the change, or mark the tool with "
                f'metadata={{"{METADATA_KEY}": False}} to run it again each time.'
            )


def _document(ctx: RunContext[Any] | None) -> bytes | None:
    """Return the dependencies of a run as JSON; None if they are no data, such as a connection."""
    if ctx is None or ctx.deps is None:
        return None
    try:
        return to_json(ctx.deps)
    except (PydanticSerializationError, ValueError, RecursionError):
        return None


class Backend(DurableOperationBackend[None]):
    """Binds the operations of an agent to steps. `run_of` returns the run of a context."""

    def __init__(self, run_of: Callable[[RunContext[Any] | None], Run]) -> None:
        self._run_of = run_of

    def bind(self, operation: DurableOperation[P, W, R]) -> BoundDurableOperation[P, W, R]:
        """Return what runs an operation as a step."""
        return _Bound(operation, self._run_of)

    def config_for_tool(
        self, operation: DurableOperation[P, W, R], *, tool: object | None, tool_name: str
    ) -> Literal[False] | None:
        """Return None: tools have no configuration."""
        return None

    def registrations(self) -> Sequence[Callable[..., object]]:
        """Return nothing: steps need no registration."""
        return ()


class _Bound(BoundDurableOperation[P, W, R], Generic[P, W, R]):
    def __init__(
        self, operation: DurableOperation[P, W, R], run_of: Callable[[RunContext[Any] | None], Run]
    ) -> None:
        self._operation, self._run_of = operation, run_of

    @property
    def operation(self) -> DurableOperation[P, W, R]:
        """The operation that is bound."""
        return self._operation

    async def __call__(self, params: P, *, config: object | None = None) -> R:
        """Run the operation once, or return its recorded result."""
        given: Any = params
        ctx: RunContext[Any] | None = getattr(given, "ctx", getattr(given, "run_context", None))
        run = self._run_of(ctx)
        name, key, kind = _described(self._operation.operation_id, given, run)
        if kind == "tool" and _makes_durable_calls(given):
            with run.scope, harness.scope(name, key=key, tasks=True), run.changing_deps():
                return await self._operation.handler(params)

        async def body() -> object:
            with durable_unit_scope(), run.keeping_deps(ctx, name):
                result = await self._operation.handler(params)
            if isinstance(result, ModelResponse):
                note_usage(result, getattr(given, "messages", None))
            return self._operation.result_codec.dump(result)

        with run.scope:
            recorded: R = await harness.step(
                name,
                body,
                key=key,
                kind=kind,
                arguments=_arguments(given) if kind == "tool" else None,
                version=_VERSION,
                read=self._operation.result_codec.load,
            )
        return recorded


_VERSION = f"pydantic-ai {version('pydantic-ai-slim')}"


def _described(operation: Any, params: Any, run: Run) -> tuple[str, str | None, harness.StepKind]:
    """Return the name, the key and the kind of a step."""
    match params:
        case ModelRequestParams():
            return "model", None, "llm"
        case ModelCompactMessagesParams():
            return "compact", None, "llm"
        case ModelCancelSuspendedResponseParams():
            return "cancel", None, "agent"
        case EventStreamHandlerParams():
            return "event", None, "agent"
    match operation:
        case ToolsetCallToolId():
            return params.name, run.key_of(params.name, params.ctx), "tool"
        case ToolsetValidateToolArgumentsId():
            name = f"{params.name}-arguments"
            return name, run.key_of(name, params.ctx), "agent"
        case ToolsetGetToolsId(toolset_id=toolset):
            return f"{toolset}-tools", None, "agent"
        case ToolsetGetInstructionsId(toolset_id=toolset):
            return f"{toolset}-instructions", None, "agent"
        case CapabilityOperationId(capability_id=capability, operation=called):
            return f"{capability}-{called}", None, "agent"
    return type(operation).__name__.removesuffix("Id"), None, "agent"


def _makes_durable_calls(params: ToolsetCallToolParams | DynamicToolsetCallToolParams) -> bool:
    """Return whether a tool makes durable calls of its own, or is a checkpoint."""
    tool = getattr(params, "tool", None)
    definition = tool.tool_def if tool is not None else getattr(params, "tool_def", None)
    if ((definition and definition.metadata) or {}).get(METADATA_KEY) is False:
        return True
    toolset = getattr(tool, "toolset", None)
    if not isinstance(toolset, FunctionToolset):
        return False
    found = toolset.tools.get(params.name)
    return found is not None and harness.is_checkpoint(found.function)


def _arguments(params: Any) -> dict[str, Any]:
    shown = to_jsonable_python(params.tool_args, fallback=repr)
    return shown if isinstance(shown, dict) else {}


def note_usage(response: ModelResponse, messages: list[ModelMessage] | None) -> None:
    """Record a request to a model, and the messages that it sent, with the running step."""
    cost = None
    # The model may have no public price.
    with suppress(LookupError, AssertionError, ValueError):
        cost = float(response.cost().total_price)
    used = response.usage
    details = {
        "cache_read_tokens": used.cache_read_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        **used.details,
    }
    calls = [
        {"id": call.tool_call_id, "name": call.tool_name, "arguments": call.args}
        for call in response.tool_calls
    ]
    harness.usage(
        model=response.model_name,
        provider=response.provider_name,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cost_usd=cost,
        prompt=None if messages is None else _as_json(messages),
        response=response.text or "",
        tool_calls=calls or None,
        finish=response.finish_reason,
        **{name: count for name, count in details.items() if count},
    )


def _as_json(messages: list[ModelMessage]) -> Any:
    return ModelMessagesTypeAdapter.dump_python(messages, mode="json")
