"""What a scripted agent says and does, in terms of no harness.

A harness turns an `Agent` into an agent of its own: its model returns what `Agent.respond` returns,
and its tools call `Tool.function`. Both record in a log that they ran, and end the process if the
test wants it to end there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kitaru.runtime.engine.execution import current

Moment = Literal["begin", "end", "soon"]
_LONGEST_SECONDS = 0.004
_SOON_SECONDS = 0.03


class Unavailable(Exception):
    """A scripted model cannot be reached now. A harness raises an error that it may retry."""


@dataclass(frozen=True)
class Call:
    """A tool call of a scripted model.

    Attributes:
        tool: the name of a tool, or of an agent that is offered as a tool.
        item: its argument. Each tool has one, a string named `item`.
        id: the id of the call, unique in the conversation.
    """

    tool: str
    item: str
    id: str


@dataclass(frozen=True)
class Turn:
    """A response of a scripted model: a text, or tool calls.

    Attributes:
        fails: number of requests that fail with `Unavailable` before this response.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    input_tokens: int = 10
    output_tokens: int = 5
    fails: int = 0


@dataclass(frozen=True)
class Tool:
    """A tool of a scripted agent.

    Attributes:
        function: the function with one argument `item: str`, of type `(str) -> str`. It is a
            coroutine function, a function that blocks, or a `@checkpoint`.
            With `changes_state`, it has a second argument: the mutable mapping of the run's state.
        approval: whether a person must approve each call.
        changes_state: whether it changes the state of the run.
        has_own_calls: whether the tool makes durable calls, such as a wait, in the flow's body.
    """

    name: str
    function: Callable[..., Any]
    approval: bool = False
    changes_state: bool = False
    has_own_calls: bool = False

    @property
    def is_async(self) -> bool:
        """Whether the function returns an awaitable."""
        return asyncio.iscoroutinefunction(self.function)


@dataclass(frozen=True)
class Agent:
    """A scripted agent.

    Attributes:
        agents: agents that are offered to the model as tools, each under its name.
        guard: an agent whose answer is checked while this agent runs. The answer `no` stops the
            run with the harness's own error. For harnesses with guardrails.
        requests: how often the harness requests a response at most, by its own retry setting.
    """

    name: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    agents: tuple[Agent, ...] = ()
    guard: Agent | None = None
    requests: int = 1

    def _next(self, answered: Collection[str]) -> int:
        done = set(answered)
        for number, turn in enumerate(self.turns):
            if not turn.calls or any(call.id not in done for call in turn.calls):
                return number
        return len(self.turns) - 1

    async def respond(self, answered: Collection[str]) -> Turn:
        """Return the response to a request.

        Args:
            answered: the ids of the tool calls whose results are in the request.

        Raises:
            Unavailable: the turn fails for this request.
        """
        number = self._next(answered)
        with happening(f"model {self.name} {number}"):
            await asyncio.sleep(world.pause())
            return self._turn(number)

    def respond_blocking(self, answered: Collection[str]) -> Turn:
        """Return the response to a request, as `respond`, for harnesses that block."""
        number = self._next(answered)
        with happening(f"model {self.name} {number}"):
            time.sleep(world.pause())
            return self._turn(number)

    async def stream(self, answered: Collection[str]) -> AsyncIterator[str | Turn]:
        """Yield the words of a response with their spaces, then the whole response."""
        number = self._next(answered)
        with happening(f"model {self.name} {number}"):
            turn = self._turn(number)
            for word in turn.text.split():
                await asyncio.sleep(world.pause())
                yield f"{word} "
            yield turn

    def _turn(self, number: int) -> Turn:
        turn = self.turns[number]
        if world.times(f"model {self.name} {number}") <= turn.fails:
            raise Unavailable(f"{self.name} is not available.")
        return turn


@dataclass(frozen=True)
class Outcome:
    """What a run of an agent returned.

    Attributes:
        text: the last text.
        tokens: the sum of input and output tokens, as the harness itself counts them.
        state: the state of the run at its end, if it has one.
        history: the texts of a conversation that is kept across runs, oldest first.
    """

    text: str
    tokens: int
    state: dict[str, Any] | None = None
    history: list[str] = field(default_factory=list)


class World:
    """What a process of a test does with each call: log it, take a moment, or die."""

    def __init__(self) -> None:
        self.log = Path(os.devnull)
        self.attempt = 0
        self.kill: tuple[int, Moment] | None = None
        self.chance = random.Random(0)
        self._number = 0
        self._lock = threading.Lock()

    def pause(self) -> float:
        """Return the seconds that a call takes."""
        return self.chance.random() * _LONGEST_SECONDS

    def times(self, label: str) -> int:
        """Return how often a call was made in the execution. Calls of one record are one call."""
        lines = [line.split("\t") for line in self.log.read_text().split("\n") if line]
        steps = [step for _, made, step in lines if made == label]
        return len(steps) if "-" in steps else len(set(steps))

    def begin(self, label: str) -> int:
        """Log the beginning of a call with the id of its record, and return its number."""
        with self._lock:
            self._number += 1
            number = self._number
        scope = current()
        step = scope.running.invocation if scope is not None and scope.running is not None else "-"
        with self.log.open("ab", buffering=0) as file:
            file.write(f"{self.attempt}\t{label}\t{step}\n".encode())
        self._die(number, "begin")
        if self.kill == (number, "soon"):
            threading.Thread(target=self._die_soon, daemon=True).start()
        return number

    def end(self, number: int) -> None:
        """End a call, whose result is not recorded yet."""
        self._die(number, "end")

    def _die(self, number: int, moment: Moment) -> None:
        if self.kill == (number, moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def _die_soon(self) -> None:
        time.sleep(random.Random(os.getpid()).random() * _SOON_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)


world = World()


@contextmanager
def happening(label: str) -> Iterator[None]:
    """Log a call of a model or a tool."""
    number = world.begin(label)
    yield
    world.end(number)
