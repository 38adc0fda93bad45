"""Flows that run agents of the SDK with scripted models, for kills and other tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    Model,
    ModelResponse,
    RunContextWrapper,
    Runner,
    Usage,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
)
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
)
from openai.types.responses.response_text_delta_event import ResponseTextDeltaEvent

from kitaru import checkpoint, flow
from kitaru.adapters.openai_agents import KitaruRunner, KitaruSession, flow_tool
from kitaru.runtime.engine.execution import current
from tests.asynchronous import programs as asynchronous
from tests.asynchronous.programs import nap, see

from .scripted import response_of_items

Calls = list[tuple[str, dict[str, Any]]]
Turns = Callable[[int, list[Any]], "Calls | str"]


def note_run() -> None:
    """Note the step or checkpoint that runs, unless the agent runs without Kitaru."""
    scope = current()
    if scope is not None and scope.running is not None:
        asynchronous.note_run()


class Scripted(Model):
    """A model whose answer in each turn is tool calls or a text.

    The ids of its calls begin with `ids` and the number of the turn, so that the next turn is
    found in the request alone.
    """

    def __init__(self, turns: Turns, ids: str = "m") -> None:
        self.turns, self.model, self._ids = turns, "scripted-1", ids

    def output(self, items: Any) -> list[Any]:
        """Return the output of the response to a request."""
        items = [{"role": "user", "content": items}] if isinstance(items, str) else items
        ids = (str(item.get("call_id", "")).rpartition("-")[0] for item in items)
        turn = len({one for one in ids if one.startswith(self._ids)})
        found = self.turns(turn, items)
        if isinstance(found, str):
            content = [{"type": "output_text", "text": found, "annotations": []}]
            return [
                ResponseOutputMessage.model_validate(
                    {"id": "x", "role": "assistant", "type": "message", "status": "completed",
                     "content": content}
                )
            ]  # fmt: skip
        return [
            ResponseFunctionToolCall(
                arguments=json.dumps(arguments),
                call_id=f"{self._ids}{turn}-{number}",
                name=name,
                type="function_call",
            )
            for number, (name, arguments) in enumerate(found)
        ]

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
        note_run()
        await nap()
        used = Usage(requests=1, input_tokens=10, output_tokens=2, total_tokens=12)
        return ModelResponse(self.output(input), used, None)

    async def stream_response(
        self, system_instructions: Any, input: Any, *_: Any, **__: Any
    ) -> AsyncIterator[Any]:
        note_run()
        output = self.output(input)
        for item in output:
            for word in item.content[0].text.split() if item.type == "message" else ():
                await nap()
                yield ResponseTextDeltaEvent(
                    content_index=0, delta=f"{word} ", item_id="x", logprobs=[], output_index=0,
                    sequence_number=1, type="response.output_text.delta",
                )  # fmt: skip
        yield ResponseCompletedEvent(
            response=response_of_items(output, 10, 2),
            sequence_number=2,
            type="response.completed",
        )


def results(items: list[Any]) -> str:
    """Return the results of the tool calls in a request."""
    return "+".join(str(item["output"]) for item in items if item.get("output") is not None)


# A guardrail with an agent, parallel tools of all kinds, a handoff, approvals, a changed context.


def _triage(turn: int, items: list[Any]) -> Calls | str:
    if turn == 0:
        return [
            ("search", {"query": "kayak"}),
            ("weigh", {"item": "boat"}),
            ("stock", {"item": "paddle"}),
            ("research", {"input": "rivers"}),
            ("ask", {"question": "size"}),
        ]
    return [("transfer_to_billing", {})]


def _billing(turn: int, items: list[Any]) -> Calls | str:
    if turn == 0:
        return [("refund", {"order": 1}), ("refund", {"order": 2}), ("note", {"text": "seen"})]
    return f"done {results(items)}"


@function_tool
async def search(query: str) -> str:
    note_run()
    await nap()
    return f"found {query}"


@function_tool
def weigh(item: str) -> int:
    note_run()
    return len(item)


@checkpoint(cache=False)
def stock(item: str) -> int:
    """Return how many there are."""
    note_run()
    return 3


@flow_tool
@function_tool
async def ask(question: str) -> str:
    """Run another agent in the tool itself."""
    result = await Runner.run(helper, question)
    return str(result.final_output)


@function_tool(needs_approval=True)
async def refund(order: int) -> str:
    note_run()
    await nap()
    return f"refunded {order}"


@function_tool
async def note(context: RunContextWrapper[dict[str, Any]], text: str) -> str:
    note_run()
    context.context["notes"] = [*context.context.get("notes", []), text]
    return "noted"


helper = Agent[Any](
    name="helper",
    model=Scripted(
        lambda turn, items: [("search", {"query": "x"})] if turn == 0 else results(items), "h"
    ),
    tools=[search],
)
judge = Agent[Any](name="judge", model=Scripted(lambda turn, items: "fine"))


@input_guardrail
async def on_topic(context: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
    result = await Runner.run(judge, input, context=context.context)
    return GuardrailFunctionOutput(result.final_output, result.final_output != "fine")


@output_guardrail
def polite(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, "damn" in output)


def _handed(context: RunContextWrapper[dict[str, Any]]) -> None:
    context.context["handed"] = True


billing = Agent[Any](
    name="billing",
    model=Scripted(_billing, "b"),
    tools=[refund, note],
    output_guardrails=[polite],
)
triage = Agent[Any](
    name="triage",
    model=Scripted(_triage, "t"),
    tools=[search, weigh, function_tool(stock), helper.as_tool("research", "Research."), ask],
    handoffs=[handoff(billing, on_handoff=_handed)],
    input_guardrails=[on_topic],
)


@flow
async def desk(question: str) -> list[Any]:
    state: dict[str, Any] = {}
    result = await KitaruRunner.run(triage, question, context=state)
    see(result.final_output)
    used = result.context_wrapper.usage
    return [result.final_output, state, result.last_agent.name, used.requests, used.total_tokens]


@flow
def desk_in_a_plain_flow(question: str) -> list[Any]:
    state: dict[str, Any] = {}
    result = KitaruRunner.run_sync(triage, question, context=state)
    see(result.final_output)
    return [result.final_output, state, result.context_wrapper.usage.requests]


@flow
async def streams(question: str) -> list[Any]:
    seen = []
    result = KitaruRunner.run_streamed(triage, question, context={})
    async for event in result.stream_events():
        shown = getattr(event.data, "type", "") if event.type == "raw_response_event" else ""
        seen.append(shown or getattr(event, "name", "") or event.type)
        see(seen[-1])
    return [seen, result.final_output]


@flow
async def talks(question: str) -> list[Any]:
    session = KitaruSession("talk", scope="execution")
    for _ in range(2):
        await KitaruRunner.run(helper, question, session=session)
    return [item.get("content", item.get("output", "")) for item in await session.get_items()]


ANSWERS = {
    f"triage.approve-refund-b0-{number}": answer
    for number, answer in enumerate((True, "Ask the boss."))
}

PROGRAMS: dict[str, tuple[Any, Any]] = {
    "desk": (desk, "hi"),
    "desk_in_a_plain_flow": (desk_in_a_plain_flow, "hi"),
    "streams": (streams, "hi"),
    "talks": (talks, "hi"),
}
