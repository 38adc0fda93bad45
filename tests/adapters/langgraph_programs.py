"""Flows that run graphs of LangGraph and agents of LangChain, for the stress test.

    python -m tests.adapters.langgraph_programs --executions 20 --span 0.5

The models are scripted and the tools sleep for a random time, so the threads and tasks of LangGraph
arrive in another order in each process.
"""

from __future__ import annotations

import operator
import sys
import time
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from kitaru import checkpoint, flow
from kitaru.adapters.langgraph import KitaruGraphRunner, KitaruMiddleware
from tests.asynchronous import stress
from tests.asynchronous.programs import chance, note_run, see


def nap() -> None:
    time.sleep(chance.random() * 0.01)


class Scripted(BaseChatModel):
    """Answers with the next message of a script, which depends on the messages alone."""

    script: list[AIMessage]
    failures: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        """Return the model: the script contains the tool calls."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        note_run()
        nap()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the model is overloaded")
        turn = sum(isinstance(message, AIMessage) for message in messages)
        count = len(messages)
        used = {"input_tokens": count, "output_tokens": 3, "total_tokens": count + 3}
        about = {"model_name": "scripted-1", "model_provider": "test", "finish_reason": "stop"}
        update = {"usage_metadata": used, "response_metadata": about}
        message = self.script[turn].model_copy(update=update)
        return ChatResult(generations=[ChatGeneration(message=message)])


def calling(name: str, *arguments: str) -> AIMessage:
    calls = [ToolCall(name=name, args={"text": one}, id=f"call {one}") for one in arguments]
    return AIMessage("", tool_calls=calls)


@tool
def search(text: str) -> str:
    """Search."""
    note_run()
    nap()
    return f"found {text}"


@tool
def remember(text: str) -> Command[Any]:
    """Change the state of the agent."""
    note_run()
    return Command(update={"messages": [ToolMessage(f"kept {text}", tool_call_id=f"call {text}")]})


@checkpoint(cache=False)
def look(text: str) -> str:
    """Look."""
    note_run()
    nap()
    return f"saw {text}"


SCRIPT = [
    calling("search", "a", "b", "c"),
    calling("remember", "d"),
    calling("search", "a", "e"),
    AIMessage("done"),
]
AGENT = create_agent(
    Scripted(script=SCRIPT), [search, remember], name="clerk", middleware=[KitaruMiddleware()]
)
OTHER = create_agent(
    Scripted(script=[calling("search", "x", "y"), AIMessage("other")]),
    [search],
    name="other",
    middleware=[KitaruMiddleware()],
)


def question(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def told(state: Any) -> list[str]:
    return [str(message.content) for message in state["messages"]]


@flow
def agent_twice(text: str) -> str:
    for message in [*told(AGENT.invoke(question(text))), *told(AGENT.invoke(question("again")))]:
        see(message)
    return look("end")


@flow
async def agent_async(text: str) -> str:
    for message in told(await AGENT.ainvoke(question(text))):
        see(message)
    return look("end")


@flow
def agent_streamed(text: str) -> str:
    for update in AGENT.stream(question(text), stream_mode="updates"):
        see(",".join(update))
    return look("end")


@flow
async def agent_streamed_async(text: str) -> str:
    async for message, _ in AGENT.astream(question(text), stream_mode="messages"):
        see(str(message.text))
    return look("end")


class State(TypedDict):
    said: Annotated[list[str], operator.add]


def looking(name: str) -> Any:
    def node(state: Any) -> State:
        nap()
        return {"said": [look(f"{name} 1"), look(f"{name} 2")]}

    return node


def spread(state: State) -> list[Send]:
    return [Send("each", {"item": str(number)}) for number in range(3)]


def each(state: Any) -> State:
    nap()
    said = AGENT.invoke(question(state["item"]))
    return {"said": [look(state["item"]), told(said)[-1]]}


class Attempts:
    left = 1


def failing(state: State) -> State:
    first = look("before")
    if Attempts.left:
        Attempts.left -= 1
        raise ConnectionError("once in each process")
    return {"said": [first, look("after")]}


def nested(state: State) -> State:
    # Two runs of one subgraph in one node.
    return {"said": [INNER.invoke({"said": []})["said"][-1] for _ in range(2)]}


def _graph(*nodes: tuple[str, Any], **options: Any) -> Any:
    builder = StateGraph(State)
    for name, node in nodes:
        builder.add_node(name, node, **(options if name == "failing" else {}))
    return builder


_INNER = _graph(("p", looking("p")), ("q", looking("q")))
_INNER.add_edge(START, "p")
_INNER.add_edge(START, "q")
INNER = _INNER.compile(name="inner")

_WIDE = _graph(
    ("one", looking("one")), ("two", looking("two")), ("three", looking("three")),
    ("sub", INNER), ("nested", nested), ("each", each), ("failing", failing),
    retry_policy=RetryPolicy(initial_interval=0.001, max_attempts=3),
)  # fmt: skip
for _name in ("one", "two", "three", "sub", "nested"):
    _WIDE.add_edge(START, _name)
_WIDE.add_conditional_edges("one", spread, ["each"])
_WIDE.add_edge("two", "failing")
_WIDE.add_edge("each", END)
WIDE = KitaruGraphRunner(_WIDE.compile(name="wide"))


@flow
def wide_graph(text: str) -> str:
    for said in WIDE.invoke({"said": [text]})["said"]:
        see(said)
    return look("end")


@flow
async def wide_graph_async(text: str) -> str:
    for said in (await WIDE.ainvoke({"said": [text]}))["said"]:
        see(said)
    return look("end")


@task
def step(number: int) -> str:
    nap()
    return look(str(number))


@entrypoint()
def functional(text: str) -> list[str]:
    first = [one.result() for one in [step(number) for number in range(4)]]
    return [*first, step(9).result(), look(text)]


FUNCTIONAL = KitaruGraphRunner(functional, name="work")


@flow
def functional_api(text: str) -> str:
    for said in [*FUNCTIONAL.invoke(text), *FUNCTIONAL.invoke("again")]:
        see(said)
    return look("end")


RETRIED = create_agent(
    Scripted(script=SCRIPT, failures=1),
    [search, remember],
    name="clerk",
    middleware=[ModelRetryMiddleware(initial_delay=0.001), KitaruMiddleware()],
)


@flow
def retried_model(text: str) -> str:
    for message in told(RETRIED.invoke(question(text))):
        see(message)
    return look("end")


REVIEWED = KitaruGraphRunner(
    create_agent(
        Scripted(script=[calling("search", "a", "b"), AIMessage("done")]),
        [search],
        name="clerk",
        middleware=[HumanInTheLoopMiddleware({"search": True}), KitaruMiddleware()],
    )
)


@flow
def reviewed(text: str) -> list[str]:
    return told(REVIEWED.invoke(question(text)))


@flow
async def reviewed_async(text: str) -> list[str]:
    return told(await REVIEWED.ainvoke(question(text)))


def asking(name: str) -> Any:
    def node(state: Any) -> State:
        before = look(f"{name} before")
        answer = interrupt({"question": f"{name}?"})
        return {"said": [before, str(answer), look(f"{name} after")]}

    return node


_ASKING = _graph(("a", asking("a")), ("b", asking("b")), ("c", asking("c")))
for _name, _next in ((START, "a"), (START, "b"), ("a", "c")):
    _ASKING.add_edge(_name, _next)
ASKING = KitaruGraphRunner(_ASKING.compile(name="asking"))


@flow
def interrupted(text: str) -> list[str]:
    said: list[str] = ASKING.invoke({"said": [text]})["said"]
    return said


@flow
async def interrupted_async(text: str) -> list[str]:
    said: list[str] = (await ASKING.ainvoke({"said": [text]}))["said"]
    return said


PROGRAMS = {
    "agent-twice": (agent_twice, "hi"),
    "agent-async": (agent_async, "hi"),
    "agent-streamed": (agent_streamed, "hi"),
    "agent-streamed-async": (agent_streamed_async, "hi"),
    "wide-graph": (wide_graph, "hi"),
    "wide-graph-async": (wide_graph_async, "hi"),
    "functional-api": (functional_api, "hi"),
    "retried-model": (retried_model, "hi"),
}


if __name__ == "__main__":
    stress.PROGRAMS.clear()
    stress.PROGRAMS.update(PROGRAMS)
    sys.exit(stress.main())
