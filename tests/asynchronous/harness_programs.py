"""Flows that run a small harness of their own, for the stress test: see `programs`.

The harness behaves like the real ones: it creates tasks whose names and number differ from run to
run, runs tools concurrently and on threads, calls agents as tools, and starts nodes again.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kitaru import checkpoint, flow, harness

from .programs import ask, chance, nap, note_run, see

Node = tuple[str, int]
node: contextvars.ContextVar[tuple[str, object] | None] = contextvars.ContextVar("node")


async def model(text: str) -> str:
    note_run()
    harness.usage(model="scripted", input_tokens=len(text), output_tokens=1)
    await nap()
    return f"m{text}"


async def search(text: str) -> str:
    note_run()
    await nap()
    return f"s{text}"


@checkpoint(cache=False)
def blocking(text: str) -> str:
    note_run()
    time.sleep(chance.random() * 0.004)
    return f"b{text}"


async def noise() -> None:
    """Create tasks as a harness does that calls clients, in another number in each run."""
    await asyncio.gather(*[nap(1) for _ in range(chance.randrange(3))])


class Agent:
    """A loop of a model and its tools."""

    def __init__(self, name: str, rounds: int) -> None:
        self.name, self.rounds = name, rounds

    async def run(self, text: str, key: str | None = None) -> str:
        async with harness.scope(self.name, key=key):
            for turn in range(self.rounds):
                request = asyncio.create_task(self.request(text))
                await noise()
                text = await request
                calls = [self.call(kind, f"{turn}.{kind}", text) for kind in ("search", "user")]
                if self.rounds > 1:
                    calls.append(Agent("inner", 1).run(text, key=f"call {turn}"))
                async with asyncio.TaskGroup() as group:
                    made = [group.create_task(call) for call in calls]
                text = "".join(one.result() for one in made)[-40:]
            return text

    async def request(self, text: str) -> str:
        await noise()
        answer: str = await harness.step("model", lambda: model(text), kind="llm")
        return answer

    async def call(self, kind: str, id: str, text: str) -> str:
        await nap()
        if kind == "user":
            async with harness.scope(kind, key=id, tasks=True):
                return await user_tool(text)
        found: str = await harness.step(
            kind, lambda: search(text), key=id, kind="tool", arguments={"text": text}
        )
        return found


async def user_tool(text: str) -> str:
    """Code of a user, with tasks and durable calls of its own."""

    async def part(n: int) -> str:
        await nap()
        return await ask(await ask(f"{n}"))

    return "".join(await asyncio.gather(*[part(n) for n in range(2)])) + await asyncio.to_thread(
        blocking, text
    )


@flow
async def agents(n: int) -> list[str]:
    """Agents side by side and one after another, some of the same name."""
    texts = await asyncio.gather(*[Agent(f"a{i % 2}", 2).run(str(i)) for i in range(n)])
    see("|".join(texts))
    last = await Agent("a0", 2).run("last")
    see(last)
    return [*texts, last]


@flow
def foreign(n: int) -> list[str]:
    """A flow that is not async: each run of an agent has a loop of its own."""
    texts = []
    for i in range(n):
        texts.append(asyncio.run(Agent("a", 2).run(str(i))))
        see(texts[-1])
    with harness.scope("outside"):
        texts.append(asyncio.run(Agent("a", 1).run("x")))
        texts.append(asyncio.run(Agent("a", 1).run("y")))
    see(texts[-1])
    return texts


def place() -> tuple[str, object] | None:
    return node.get(None)


def look(text: str) -> str:
    note_run()
    time.sleep(chance.random() * 0.003)
    return f"l{text}"


def run_node(name: str, breaks: bool) -> str:
    """Run a node like LangGraph: one that breaks starts again from its beginning."""
    for attempt in range(2 if breaks else 1):
        node.set((f"{name}.{chance.randrange(1)}", object()))
        time.sleep(chance.random() * 0.003)
        text = str(harness.blocking_step("look", lambda: look(name)))
        text += str(harness.blocking_step("look", lambda: look(name), kind="tool"))
        if attempt or not breaks:
            text += blocking(name)
    return text


@flow
def threads(n: int) -> list[str]:
    """Nodes on threads of a pool that know their place only from a context variable."""
    out: list[str] = []
    for turn in range(2):
        with (
            harness.scope("graph"),
            harness.place_provider(place),
            ThreadPoolExecutor(n) as pool,
        ):
            started = [
                pool.submit(contextvars.copy_context().run, run_node, f"n{turn}-{i}", i % 2 == 0)
                for i in range(n)
            ]
            out += [one.result() for one in started]
        see("".join(out))
    return out


PROGRAMS: dict[str, tuple[Any, int]] = {
    "agents": (agents, 3),
    "foreign": (foreign, 2),
    "threads": (threads, 4),
}
