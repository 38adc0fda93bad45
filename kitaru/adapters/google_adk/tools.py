"""Calls of tools, as steps: their results, and what they change in the session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

from google.adk.artifacts import InMemoryArtifactService
from google.adk.events import EventActions
from google.adk.tools import BaseTool, ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from kitaru import harness
from kitaru.adapters.google_adk.runs import VERSION, Run, run_of
from kitaru.errors import ContextError, UsageError, ValueNotEncodable

# A dict with this key is not data of the user.
_MARK = "kitaru"
# The artifacts that the running step has saved.
_saved: ContextVar[list[Any] | None] = ContextVar("kitaru_google_adk_saved", default=None)


def make_durable(tool: BaseTool) -> None:
    """Let the tool run as a step where an agent in a flow calls it.

    The callbacks and confirmations of ADK are around the step. They run again in a replay.
    """
    plain = tool.run_async
    if getattr(plain, "is_durable", False):
        return

    async def run_async(*, args: dict[str, Any], tool_context: ToolContext) -> Any:
        def called() -> Awaitable[Any]:
            result: Awaitable[Any] = plain(args=args, tool_context=tool_context)
            return result

        run = run_of(tool_context)
        if run is None:
            return await called()
        key = run.key(tool.name, tool_context)
        makes_tasks = _in_flow(tool, run)
        if makes_tasks is None:
            return await _Call(run, tool.name, tool_context, called).recorded(key, args)
        with run.place(tool_context):
            scope = harness.scope(tool.name, key=key, tasks=makes_tasks)
        async with scope:
            return await called()

    run_async.is_durable = True  # type: ignore[attr-defined]
    tool.run_async = run_async


def _in_flow(tool: BaseTool, run: Run) -> bool | None:
    """Return None for a tool that is one step.

    Otherwise, the tool runs in the flow's body. Return whether its tasks are the user's own, as in
    a function that makes durable calls, and not ADK's, as where an agent runs.
    """
    if tool.name in run.flow_tools or harness.is_checkpoint(getattr(tool, "func", None)):
        return True
    if isinstance(tool, AgentTool):
        # Without plugins, nothing would record the calls of the agent.
        return False if tool.include_plugins else None
    return False if hasattr(tool, "node") else None


class _Call:
    """A call of a tool that is one step.

    A replay does not run the tool, so the record contains its changes of the session as well.
    """

    def __init__(
        self, run: Run, tool: str, context: ToolContext, called: Callable[[], Awaitable[Any]]
    ) -> None:
        self._run, self._tool, self._context, self._called = run, tool, context, called
        self._before = context.actions.model_copy(deep=True)
        self._has_run = False
        self._is_recorded = asyncio.Event()

    async def recorded(self, key: str, args: dict[str, Any]) -> Any:
        """Return the result of the call. In a replay, repeat its changes."""
        with self._run.place(self._context):
            step = harness.step(
                self._tool,
                self._body,
                key=key,
                kind="tool",
                arguments=to_jsonable_python(args, fallback=repr),
                version=VERSION,
                read=_Record.model_validate,
            )
        try:
            record: _Record = await step
        finally:
            self._is_recorded.set()
        if not self._has_run:
            await self._repeat(record)
        return _decode(record.value)

    async def _body(self) -> Any:
        artifacts: list[Any] = []
        token, state_before = _saved.set(artifacts), dict(self._context.session.state)
        try:
            value = _encode(await self._called(), self._tool)
        except ContextError as error:
            raise UsageError(
                f"The tool {self._tool} makes durable calls itself, so it cannot be recorded as "
                "one call.",
                help=f"Let it run in the flow's body: flow_tools=[{self._tool!r}].",
            ) from error
        except Exception:
            self._undo(state_before)
            raise
        finally:
            _saved.reset(token)
        self._has_run = True
        state = self._state()
        record = _Record(value=value, state=state, artifacts=artifacts, actions=self._actions())
        if state or artifacts:
            await self._wait_for_earlier_changes()
        return record.model_dump(mode="json")

    def _undo(self, state_before: dict[str, Any]) -> None:
        """Take back the changes of a call that fails: its record is the error alone."""
        delta, state = self._context.actions.state_delta, self._context.session.state
        for key in [key for key in delta if key not in self._before.state_delta]:
            if state.get(key) is delta.pop(key):
                state.pop(key)
                state.update({key: state_before[key]} if key in state_before else {})

    async def _wait_for_earlier_changes(self) -> None:
        """Wait until the tools that have ended before are recorded.

        Tools that run side by side share the state. A record may contain changes of a tool that
        ended before, so it must not survive a crash without the record of that tool.
        """
        earlier, self._run.last_change = self._run.last_change, self._is_recorded
        if earlier is not None:
            await earlier.wait()

    def _state(self) -> list[tuple[str, Any, bool]]:
        """Return the changes of the state: key, value, and whether it is the value of the session.

        Another tool that runs side by side may have changed it since.
        """
        found = []
        for key, value in self._context.actions.state_delta.items():
            if key in self._before.state_delta and self._before.state_delta[key] == value:
                continue
            try:
                recorded = to_jsonable_python(value)
            except PydanticSerializationError as error:
                raise ValueNotEncodable(
                    f"The tool {self._tool} sets the state {key!r} to a value that is not JSON: "
                    f"{error}.",
                    help="Set it to JSON data.",
                ) from error
            is_current = self._context.session.state.get(key) is value
            if recorded != value and is_current:
                # A replay has only what was recorded, such as a list instead of a tuple.
                self._context.state[key] = recorded
            found.append((key, recorded, is_current))
        return found

    def _actions(self) -> dict[str, Any]:
        """Return the changed actions but those of the state, such as a transfer."""
        actions = self._context.actions
        changed = {
            name
            for name in EventActions.model_fields
            if name != "state_delta" and getattr(actions, name) != getattr(self._before, name)
        }
        if "requested_auth_configs" in changed:
            raise UsageError(
                f"The tool {self._tool} requests a credential, which a flow must not record.",
                help="Authenticate before the flow runs, or read a token with kitaru.secret.",
            )
        dumped: dict[str, Any] = actions.model_dump(
            mode="json", by_alias=True, exclude_none=True, include=changed
        )
        return dumped

    async def _repeat(self, record: _Record) -> None:
        context = self._context
        for artifact in record.artifacts:
            part = types.Part.model_validate_json(artifact["part"])
            await context.save_artifact(artifact["filename"], part, artifact["metadata"])
        for key, value, is_current in record.state:
            if is_current:
                context.state[key] = value
            else:
                context.actions.state_delta[key] = value
        actions = EventActions.model_validate(record.actions)
        for name in actions.model_fields_set:
            value = getattr(actions, name)
            if isinstance(value, dict):
                getattr(context.actions, name).update(value)
            else:
                setattr(context.actions, name, value)


class _Record(BaseModel):
    """The record of a call: its result, and its changes of the session."""

    value: Any
    state: list[tuple[str, Any, bool]]
    artifacts: list[dict[str, Any]]
    actions: dict[str, Any]


class NotedArtifacts(InMemoryArtifactService):
    """The artifacts of a process. Those that a step saves are in its record."""

    async def save_artifact(self, *, artifact: Any, **given: Any) -> int:
        """Save an artifact and return its version."""
        version: int = await super().save_artifact(artifact=artifact, **given)
        saved = _saved.get()
        if saved is not None:
            part = artifact if isinstance(artifact, types.Part) else types.Part(**artifact)
            saved.append(
                {
                    "filename": given["filename"],
                    "part": part.model_dump_json(exclude_none=True),
                    "metadata": given.get("custom_metadata"),
                }
            )
        return version


def noted(service: Any) -> Any:
    """Return a service of artifacts whose content survives the process: the one given, or not.

    Other services than ADK's own in memory keep their artifacts themselves.
    """
    if type(service) is not InMemoryArtifactService:
        return service
    made = NotedArtifacts()
    made.artifacts = service.artifacts
    return made


def _encode(value: Any, tool: str) -> Any:
    """Return a result as JSON. Files that a tool returns remain parts of a message."""
    match value:
        case types.Part():
            return {_MARK: "part", "value": value.model_dump_json(exclude_none=True)}
        case types.FunctionResponse():
            return {_MARK: "response", "value": value.model_dump_json(exclude_none=True)}
        case list() | tuple():
            return [_encode(one, tool) for one in value]
        case Mapping() if all(isinstance(key, str) for key in value):
            inner = {key: _encode(one, tool) for key, one in value.items()}
            return {_MARK: "dict", "value": inner} if _MARK in inner else inner
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise ValueNotEncodable(
            f"The tool {tool} returned a value that is not JSON: {error}.",
            help=f"Return JSON data. Or let it run in the flow's body: flow_tools=[{tool!r}].",
        ) from error


def _decode(value: Any) -> Any:
    """Return what `_encode` was called with."""
    match value:
        case {"kitaru": "part", "value": text}:
            return types.Part.model_validate_json(text)
        case {"kitaru": "response", "value": text}:
            return types.FunctionResponse.model_validate_json(text)
        case {"kitaru": "dict", "value": inner}:
            return {key: _decode(one) for key, one in inner.items()}
        case dict():
            return {key: _decode(one) for key, one in value.items()}
        case list():
            return [_decode(one) for one in value]
    return value
