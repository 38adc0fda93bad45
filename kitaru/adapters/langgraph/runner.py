"""Graphs of LangGraph in the body of a flow: places of their calls, and interrupts as waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt, StateSnapshot

from kitaru import harness
from kitaru.adapters.langgraph.places import Run
from kitaru.errors import UsageError

_END = object()


class KitaruGraphRunner:
    """Runs a compiled graph, or a function below `@entrypoint`, in the body of a flow.

    Checkpoints, `kitaru.wait` and durable agents in nodes get ids from their node and step, also in
    parallel nodes, subgraphs, retries and nodes that start again after an interrupt. An interrupt
    becomes a wait: the execution suspends, and the answer resumes the graph. If several nodes
    interrupt in one step, an async flow asks all questions at once.

    Outside of flows, and in checkpoints, the graph runs as without the runner. In a flow, the
    journal restores the state of the graph. The graph must have no checkpointer there, or an
    `InMemorySaver`.

    Args:
        graph: a compiled graph, or a function below `@entrypoint`.
        name: what ids begin with. Default: the name of the graph.

    Attributes that the runner does not define are those of the graph, such as `get_graph`.

    Raises:
        UsageError: the graph has a checkpointer that is outside of the execution's journal.

    Example:
        graph = KitaruGraphRunner(builder.compile(), name="review")

        @flow
        def main(topic: str) -> dict[str, str]:
            return graph.invoke({"topic": topic})
    """

    def __init__(self, graph: Pregel[Any, Any, Any, Any], *, name: str | None = None) -> None:
        self._graph = graph
        self._name = name or graph.get_name()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        """Run the graph and return its output; in a flow, ask a person at each interrupt.

        `options` are those of the graph's own method.
        """
        if harness.current_execution() is None:
            return self._graph.invoke(input, config, **options)
        started = _Started(self._graph, self._name, config)
        while True:
            with started.run.entered():
                result = started.graph.invoke(input, started.config, **options)
                asked = started.questions()
                if not asked:
                    return result
                answers = _blocking_answers(asked)
            input = Command(resume=answers)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Any:
        """Run the graph and return its output; in a flow, ask a person at each interrupt.

        `options` are those of the graph's own method.
        """
        if harness.current_execution() is None:
            return await self._graph.ainvoke(input, config, **options)
        started = _Started(self._graph, self._name, config)
        while True:
            with started.run.entered():
                result = await started.graph.ainvoke(input, started.config, **options)
                asked = started.questions()
                if not asked:
                    return result
                answers = await _answers(asked)
            input = Command(resume=answers)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[Any]:
        """Yield what the graph streams; in a flow, ask a person at each interrupt.

        A replay yields the recorded results again, but not the pieces of a recorded message.
        `options` are those of the graph's own method.
        """
        if harness.current_execution() is None:
            yield from self._graph.stream(input, config, **options)
            return
        started = _Started(self._graph, self._name, config)
        while True:
            with started.run.entered():
                pieces = started.graph.stream(input, started.config, **options)
            while True:
                # The flow's own calls between two pieces are not in the graph's scope.
                with started.run.entered():
                    piece = next(pieces, _END)
                if piece is _END:
                    break
                yield piece
            with started.run.entered():
                answers = _blocking_answers(started.questions())
            if not answers:
                return
            input = Command(resume=answers)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Yield what the graph streams; in a flow, ask a person at each interrupt.

        A replay yields the recorded results again, but not the pieces of a recorded message.
        `options` are those of the graph's own method.
        """
        if harness.current_execution() is None:
            async for piece in self._graph.astream(input, config, **options):
                yield piece
            return
        started = _Started(self._graph, self._name, config)
        while True:
            with started.run.entered():
                pieces = started.graph.astream(input, started.config, **options)
            while True:
                with started.run.entered():
                    piece = await anext(pieces, _END)
                if piece is _END:
                    break
                yield piece
            with started.run.entered():
                answers = await _answers(started.questions())
            if not answers:
                return
            input = Command(resume=answers)


class _Started:
    """A run of a graph that has begun: its scope, and its state in this process."""

    def __init__(
        self, graph: Pregel[Any, Any, Any, Any], name: str, config: RunnableConfig | None
    ) -> None:
        saver = graph.checkpointer
        if not (saver is None or isinstance(saver, bool | InMemorySaver)):
            raise UsageError(
                f"The graph {name} has the checkpointer {type(saver).__name__}, whose state is "
                "newer than the journal when an execution resumes.",
                help="Compile the graph that the flow runs without a checkpointer. The journal "
                "restores its state.",
            )
        self.run = Run(name)
        if not isinstance(saver, InMemorySaver):
            graph = graph.copy({"checkpointer": InMemorySaver()})
        self.graph = graph
        found: dict[str, Any] = dict(config or {})
        # The saver lives as long as the run, so that any id of a thread is unique in it.
        found["configurable"] = {"thread_id": "run", **found.get("configurable", {})}
        found["callbacks"] = _with_handler(found.get("callbacks"), self.run)
        self.config = cast(RunnableConfig, found)

    def questions(self) -> list[_Question]:
        """Return what the nodes of the last step ask, in the order of the graph."""
        return _questions(self.graph.get_state(self.config))


def _with_handler(callbacks: Any, run: Run) -> Any:
    if callbacks is None or isinstance(callbacks, list):
        return [*(callbacks or ()), run]
    manager = callbacks.copy()
    manager.add_handler(run, inherit=True)
    return manager


class _Question:
    """An interrupt that waits for an answer. `place` is the node, and its number if needed."""

    def __init__(self, place: str, interrupt: Interrupt) -> None:
        self.place = place
        self.id = interrupt.id
        self._value = interrupt.value
        self._reviewed = _actions(self._value)

    def waits(self) -> list[dict[str, Any]]:
        """Return the arguments of the waits that the interrupt becomes."""
        if not self._reviewed:
            metadata = {"interrupt": _json(self._value)}
            return [_wait(self.place, _text(self._value), metadata, Any)]
        return [
            _wait(
                f"approve_{action['name']}-{number}",
                action.get("description") or f"Run {action['name']}?",
                {"action": _json(action)},
                bool | str | dict[str, Any],
            )
            for number, action in enumerate(self._reviewed)
        ]

    def resumed(self, answers: list[Any]) -> Any:
        """Return what the graph continues with, from the answers of the waits."""
        if not self._reviewed:
            return answers[0]
        return {"decisions": [_decision(answer) for answer in answers]}


def _wait(name: str, question: str, metadata: dict[str, Any], schema: Any) -> dict[str, Any]:
    return {"name": name, "question": question, "metadata": metadata, "schema": schema}


async def _answers(asked: list[_Question]) -> dict[str, Any]:
    """Suspend this task until all questions are answered; return the answers by interrupt."""
    waits = [[harness.wait(**wait) for wait in one.waits()] for one in asked]
    found = await asyncio.gather(*(asyncio.gather(*several) for several in waits))
    return {one.id: one.resumed(answers) for one, answers in zip(asked, found, strict=True)}


def _blocking_answers(asked: list[_Question]) -> dict[str, Any]:
    """Suspend the flow at each question until it is answered; return the answers by interrupt."""
    return {
        one.id: one.resumed([harness.blocking_wait(**wait) for wait in one.waits()])
        for one in asked
    }


def _questions(state: StateSnapshot) -> list[_Question]:
    found = []
    for task in state.tasks:
        numbers = [part for part in task.path[1:] if isinstance(part, int)]
        place = f"{task.name}-{numbers[0]}" if numbers else task.name
        for number, interrupt in enumerate(task.interrupts):
            found.append(_Question(f"{place}-{number}" if number else place, interrupt))
    return found


def _actions(value: Any) -> list[Any]:
    """Return the tool calls of a request of `HumanInTheLoopMiddleware`, empty for another value."""
    return list(value.get("action_requests") or ()) if isinstance(value, Mapping) else []


def _decision(answer: Any) -> Any:
    """Return a decision about a tool call: yes or no, a reason for no, or LangChain's own form."""
    if isinstance(answer, Mapping):
        return answer
    if isinstance(answer, str):
        return {"type": "reject", "message": answer}
    return {"type": "approve" if answer else "reject"}


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("question"), str):
        return str(value["question"])
    return value if isinstance(value, str) else json.dumps(_json(value), ensure_ascii=False)


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
