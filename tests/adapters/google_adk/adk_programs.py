"""Flows that run agents of ADK with scripted models, for kills and other tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App, ResumabilityConfig
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.tools import FunctionTool, LongRunningFunctionTool, ToolContext, exit_loop
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

from kitaru import aio, checkpoint, flow
from kitaru.adapters.google_adk import KitaruADKRunner
from kitaru.harness import current_step
from tests.asynchronous.programs import nap, note_run, see

Calls = list[tuple[str, dict[str, Any]]]


class Scripted(BaseLlm):
    """A model whose answer in each turn is tool calls or a text.

    Calls have no ids, as those of Gemini, unless `named` is set.
    """

    model: str = "scripted-1"
    turns: Callable[[int, list[Any]], Calls | str]
    named: bool = False
    version: str = "scripted-1-001"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        if current_step() is not None:
            note_run()
        await nap()
        parts = [part for content in llm_request.contents for part in content.parts or ()]
        turn = sum(content.role == "model" for content in llm_request.contents)
        last = llm_request.contents[-1].parts or []
        found = self.turns(turn, [p.function_response for p in last if p.function_response])
        used = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=10 * len(parts),
            candidates_token_count=5,
            cached_content_token_count=2,
            thoughts_token_count=1,
        )
        if isinstance(found, str):
            made = [types.Part(text=found)]
            for word in found.split() if stream else ():
                piece = types.Content(role="model", parts=[types.Part(text=f"{word} ")])
                yield LlmResponse(content=piece, partial=True)
        else:
            made = [
                types.Part(
                    function_call=types.FunctionCall(
                        id=f"t{turn}c{number}" if self.named else None, name=name, args=args
                    )
                )
                for number, (name, args) in enumerate(found)
            ]
        yield LlmResponse(
            content=types.Content(role="model", parts=made),
            usage_metadata=used,
            model_version=self.version,
            finish_reason=types.FinishReason.STOP,
        )


def shown(responses: list[Any]) -> str:
    """Return the results of the last tool calls."""
    return "+".join(
        str((one.response or {}).get("result", one.response or "file")) for one in responses
    )


def agent_of(
    name: str, turns: Callable[[int, list[Any]], Calls | str], *tools: Any, **more: Any
) -> LlmAgent:
    return LlmAgent(name=name, model=Scripted(turns=turns), tools=list(tools), **more)


# Parallel tools, tools that change the session, a checkpoint and an agent as tools.


async def weather(city: str) -> str:
    note_run()
    await nap()
    return f"{city} is cold"


async def pack(item: str, tool_context: ToolContext) -> dict[str, Any]:
    """Put an item into the state, which parallel calls share."""
    note_run()
    await nap()
    tool_context.state[f"bag_{item}"] = 1 + tool_context.state.get(f"bag_{item}", 0)
    return {"packed": item}


async def draw(item: str, tool_context: ToolContext) -> types.Part:
    """Save a picture, twice, and return it."""
    note_run()
    await nap()
    part = types.Part(inline_data=types.Blob(data=item.encode(), mime_type="image/png"))
    await tool_context.save_artifact(f"{item}.png", types.Part(text="a draft"))
    await tool_context.save_artifact(f"{item}.png", part)
    return part


async def show(item: str, tool_context: ToolContext) -> str:
    """Load both versions of a picture."""
    note_run()
    first, last = [await tool_context.load_artifact(f"{item}.png", n) for n in (0, 1)]
    assert first is not None and last is not None and last.inline_data is not None
    return f"{first.text} then {last.inline_data.data!r}"


@checkpoint(cache=False)
async def stock(item: str) -> int:
    """Return how many there are."""
    note_run()
    await nap()
    return len(item)


def _helper(turn: int, seen: list[Any]) -> Calls | str:
    return [("weather", {"city": "Oslo"})] * 2 if turn == 0 else f"found {shown(seen)}"


def _plan(turn: int, seen: list[Any]) -> Calls | str:
    if turn == 0:
        return [
            *[("weather", {"city": city}) for city in ("Oslo", "Rome")],
            *[("pack", {"item": item}) for item in ("coat", "hat")],
            ("draw", {"item": "map"}),
            ("stock", {"item": "coat"}),
            ("helper", {"request": "snow"}),
        ]
    if turn == 1:
        return [("show", {"item": "map"}), ("pack", {"item": "gloves"})]
    return f"done {shown(seen)}"


helper = agent_of("helper", _helper, weather)
packer = agent_of("packer", _plan, weather, pack, draw, show, stock, AgentTool(helper))
durable = KitaruADKRunner(packer)


@flow
async def tools(question: str) -> list[Any]:
    result = await durable.run(question)
    see(result.text)
    return [result.text, sorted(result.session.state.items()), len(result.events)]


@flow
def tools_in_a_plain_flow(question: str) -> list[Any]:
    out: list[Any] = []
    for _ in range(2):
        result = durable.run_sync(question, state={"bag_hat": 1})
        see(result.text)
        out += [result.text, sorted(result.session.state.items())]
    return out


# Agents of several kinds: in a row, side by side, in a loop, and one that hands over.


def _worker(name: str) -> LlmAgent:
    def plan(turn: int, seen: list[Any]) -> Calls | str:
        return [("weather", {"city": name})] if not seen else f"{name}: {shown(seen)}"

    return agent_of(name, plan, weather, output_key=name)


def _critic(turn: int, seen: list[Any]) -> Calls | str:
    return [("exit_loop", {})] if turn > 4 else "again"


def _desk(turn: int, seen: list[Any]) -> Calls | str:
    return [("transfer_to_agent", {"agent_name": "clerk"})]


def _clerk(turn: int, seen: list[Any]) -> Calls | str:
    last = seen[0].name if seen else ""
    return f"clerk: {shown(seen)}" if last == "weather" else [("weather", {"city": "Bern"})]


crew = SequentialAgent(
    name="crew",
    sub_agents=[
        ParallelAgent(name="both", sub_agents=[_worker("north"), _worker("south")]),
        LoopAgent(
            name="loop",
            sub_agents=[agent_of("critic", _critic, exit_loop)],
            max_iterations=5,
        ),
    ],
)
desk = agent_of("desk", _desk, sub_agents=[agent_of("clerk", _clerk, weather)])


@flow
async def teams(question: str) -> list[Any]:
    first = await KitaruADKRunner(crew).run(question)
    see(str(sorted(first.session.state.items())))
    second = await KitaruADKRunner(desk).run(question)
    see(second.text)
    return [
        sorted(first.session.state.items()),
        sum(e.author == "critic" for e in first.events),
        second.text,
    ]


# Streams


@flow
async def streams(question: str) -> list[Any]:
    texts = []
    config = RunConfig(streaming_mode=StreamingMode.SSE)
    async for event in KitaruADKRunner(packer).run_async(question, run_config=config):
        parts = (event.content.parts if event.content else None) or ()
        texts.append([event.author, *[part.text or "" for part in parts]])
        see(str(texts[-1]))
    return texts


# Confirmations and long-running tools


async def delete(name: str) -> str:
    note_run()
    await nap()
    return f"deleted {name}"


async def guarded(n: int, tool_context: ToolContext) -> Any:
    """Ask for a confirmation in the middle of the tool."""
    note_run()
    if tool_context.tool_confirmation is None:
        tool_context.request_confirmation(hint="Sure?", payload={"days": 0})
        return {"status": "waiting"}
    return [tool_context.tool_confirmation.confirmed, tool_context.tool_confirmation.payload]


async def order(item: str) -> dict[str, Any]:
    """Begin to order something."""
    note_run()
    return {"status": "pending", "ticket": item}


async def consult(item: str) -> str:
    """Ask a person in the middle of a tool."""
    return f"{item}: {await aio.wait(name='consult', schema=str)}"


def _asks(turn: int, seen: list[Any]) -> Calls | str:
    if turn == 0:
        return [
            ("delete", {"name": "a"}),
            ("delete", {"name": "b"}),
            ("guarded", {"n": 1}),
            ("order", {"item": "tea"}),
            ("consult", {"item": "hat"}),
            ("weather", {"city": "Oslo"}),
        ]
    return f"done {shown(seen)}"


careful = LlmAgent(
    name="careful",
    model=Scripted(turns=_asks, named=True),
    tools=[
        FunctionTool(delete, require_confirmation=True),
        guarded,
        LongRunningFunctionTool(order),
        consult,
        weather,
    ],
)
ANSWERS = {
    "careful.approve-delete-t0c0": True,
    "careful.approve-delete-t0c1": False,
    "careful.approve-guarded-t0c2": {"confirmed": True, "payload": {"days": 3}},
    "careful.answer-order-t0c3": {"status": "done"},
    "careful.consult-t0c4.consult": "fine",
}


@flow
async def approvals(question: str) -> list[Any]:
    result = await KitaruADKRunner(careful, flow_tools=["consult"]).run(question)
    see(result.text)
    return [result.text]


resumable = App(
    name="careful", root_agent=careful, resumability_config=ResumabilityConfig(is_resumable=True)
)


@flow
async def approvals_resumable(question: str) -> list[Any]:
    result = await KitaruADKRunner(resumable, flow_tools=["consult"]).run(question)
    see(result.text)
    return [result.text]


PROGRAMS: dict[str, tuple[Any, Any]] = {
    "tools": (tools, "hi"),
    "tools_in_a_plain_flow": (tools_in_a_plain_flow, "hi"),
    "teams": (teams, "hi"),
    "streams": (streams, "hi"),
    "approvals": (approvals, "hi"),
    "approvals_resumable": (approvals_resumable, "hi"),
}
