"""Google ADK for the conformance kit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.plugins import BasePlugin
from google.adk.tools import BaseTool, FunctionTool, ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

from kitaru import errors, flow
from kitaru.adapters.google_adk import KitaruADKRunner, KitaruSessionService, RunResult, models
from kitaru.adapters.google_adk.models import decode, encode
from kitaru.harness import current_execution
from kitaru.testing.adapters import Agent, Feature, Harness, Outcome, Tool, Turn


class Model(BaseLlm):
    """A model that answers with the script's turns."""

    model: str = "scripted-1"
    agent: Any

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        answered = [
            part.function_response.id or ""
            for content in llm_request.contents
            for part in content.parts or ()
            if part.function_response is not None
        ]
        if not stream:
            yield _response(await self.agent.respond(answered))
            return
        async for piece in self.agent.stream(answered):
            if isinstance(piece, Turn):
                yield _response(piece)
            else:
                yield LlmResponse(content=_text(piece), partial=True)


def _text(text: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text)])


def _response(turn: Turn) -> LlmResponse:
    parts = [
        types.Part(
            function_call=types.FunctionCall(id=call.id, name=call.tool, args={"item": call.item})
        )
        for call in turn.calls
    ]
    return LlmResponse(
        content=types.Content(role="model", parts=parts) if parts else _text(turn.text),
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=turn.input_tokens, candidates_token_count=turn.output_tokens
        ),
        model_version="scripted-1",
    )


class Tokens(BasePlugin):
    """Counts the tokens of all agents of a run. ADK gives the callbacks of each request."""

    def __init__(self) -> None:
        super().__init__(name="tokens")
        self.count = 0

    async def after_model_callback(
        self, *, callback_context: Any, llm_response: LlmResponse
    ) -> None:
        used = llm_response.usage_metadata
        if used is not None:
            self.count += used.prompt_token_count + used.candidates_token_count


class Built:
    """An app for a script."""

    def __init__(self, agent: Agent, session: str | None = None) -> None:
        self.tokens = Tokens()
        app = App(name="kit", root_agent=built(agent), plugins=[self.tokens])
        own = [tool.name for tool in agent.tools if tool.has_own_calls]
        self.sessions = None
        if session is not None and (execution := current_execution()) is not None:
            self.sessions = KitaruSessionService(execution.store)
        self.runner = KitaruADKRunner(app, flow_tools=own, session_service=self.sessions)

    async def outcome(self, result: RunResult) -> Outcome:
        texts: list[str] = []
        if self.sessions is not None:
            where = {"app_name": "kit", "user_id": "user", "session_id": result.session.id}
            kept = await self.sessions.get_session(**where)
            parts = (part for event in kept.events for part in event.content.parts or ())
            texts = [part.text for part in parts if part.text]
        return Outcome(result.text, self.tokens.count, result.session.state or None, texts)


def built(agent: Agent) -> LlmAgent:
    tools = [_tool(tool) for tool in agent.tools]
    tools += [AgentTool(built(nested)) for nested in agent.agents]
    return LlmAgent(name=agent.name, model=Model(agent=agent), tools=tools)


def _tool(tool: Tool) -> BaseTool:
    function: Callable[..., Any] = tool.function
    if tool.changes_state:

        async def changing(item: str, tool_context: ToolContext) -> str:
            return str(await tool.function(item, tool_context.state))

        changing.__name__, function = tool.name, changing
    return FunctionTool(function, require_confirmation=tool.approval)


class GoogleADK(Harness):
    """Agents of ADK with `KitaruADKRunner`."""

    packages = ("google.adk",)
    names: ClassVar[frozenset[str]] = frozenset({"model", "load", "save"})
    records = Path(__file__).parent / "records"
    unsupported: ClassVar[Mapping[Feature, str]] = {
        "guard": "ADK has no agents that check another one while it runs.",
        "retries": "The retries of a request are those of the model's client, inside of its step.",
    }

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        """Run an agent, in a session that is kept if it has a name."""
        app = Built(agent, session)
        return await app.outcome(await app.runner.run(prompt, state=state, session_id=session))

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        """Run an agent in code that blocks."""
        app = Built(agent)
        result = app.runner.run_sync(prompt)
        return Outcome(result.text, app.tokens.count)

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        """Yield the texts of an agent."""
        config = RunConfig(streaming_mode=StreamingMode.SSE)
        async for event in Built(agent).runner.run_async(prompt, run_config=config):
            for part in (event.content.parts if event.content else None) or ():
                if part.text:
                    yield part.text

    def messages(self) -> Iterable[tuple[str, Any, Any]]:
        """Yield responses of each kind."""
        parts = {
            "text": types.Part(text="héllo"),
            "reasoning": types.Part(text="hm", thought=True, thought_signature=b"\x00\xff"),
            "image": types.Part(inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png")),
            "file": types.Part(file_data=types.FileData(file_uri="gs://b/o", mime_type="a/b")),
            "tool call": types.Part(
                function_call=types.FunctionCall(id="c", name="look", args={"a": [1, None]})
            ),
            "code": types.Part(
                executable_code=types.ExecutableCode(code="1", language=types.Language.PYTHON)
            ),
        }
        for name, part in parts.items():
            message = LlmResponse(
                content=types.Content(role="model", parts=[part]),
                usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1),
                custom_metadata={"p": {"x": 1}},
                finish_reason=types.FinishReason.STOP,
                model_version="m",
            )
            yield name, message, decode(encode(message))
        refusal = LlmResponse(error_code="SAFETY", error_message="no", content=None)
        yield "refusal", refusal, decode(encode(refusal))

    def read_other_version(self, version: str) -> str:
        """Resume an execution whose response has another form."""
        fails = [ValueError()]
        runner = KitaruADKRunner(LlmAgent(name="first", model=_Silent(model="none")))

        @flow
        async def asks() -> str:
            text = (await runner.run("begin")).text
            if fails:
                raise fails.pop()
            return text

        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as store:
            store.setenv("KITARU_STORE", f"sqlite:{folder}/kitaru.db")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(models, "VERSION", f"google-adk {version}")
                patch.setattr(models, "encode", lambda response: {"before": encode(response)})
                patch.setattr(models, "decode", lambda record: decode(record["before"]))
                with pytest.raises(errors.FlowError):
                    asks.options(exec_id="e").run().wait()
            with pytest.raises(errors.KitaruError) as caught:
                asks.resume("e").wait(60)
            return str(caught.value)


class _Silent(BaseLlm):
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        yield LlmResponse(content=_text(""))


# ADK imports most of itself when an agent runs. Otherwise each process of a test would do it.
asyncio.run(KitaruADKRunner(LlmAgent(name="first", model=_Silent(model="none"))).run("begin"))
