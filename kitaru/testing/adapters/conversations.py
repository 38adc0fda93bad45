"""The conversations that the kit runs with each harness, and the flows that run them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any

from kitaru import aio, checkpoint, flow
from kitaru.harness import listen
from kitaru.testing.adapters.harness import Feature, Harness
from kitaru.testing.adapters.script import Agent, Call, Tool, Turn, happening, world


async def look(item: str) -> str:
    """Look at an item."""
    with happening(f"tool look {item}"):
        await asyncio.sleep(world.pause())
        return f"saw {item}"


def weigh(item: str) -> str:
    """Weigh an item. It blocks."""
    with happening(f"tool weigh {item}"):
        time.sleep(world.pause())
        return f"{item} weighs {len(item)}"


async def collect(item: str, state: MutableMapping[str, Any]) -> str:
    """Put an item into the state."""
    with happening(f"tool collect {item}"):
        await asyncio.sleep(world.pause())
        state["items"] = [*state.get("items", []), item]
        return f"collected {item}"


async def publish(item: str) -> str:
    """Publish an item. It needs an approval."""
    with happening(f"tool publish {item}"):
        await asyncio.sleep(world.pause())
        return f"published {item}"


async def destroy(item: str) -> str:
    """Destroy an item. It needs an approval, and is refused."""
    with happening(f"tool destroy {item}"):
        return f"destroyed {item}"


async def consult(item: str) -> str:
    """Ask a person about an item: a durable call of the tool's own."""
    answer = await aio.wait(name=f"consult-{item}", schema=str)
    return f"{item}: {answer}"


@checkpoint
async def measure(item: str) -> str:
    """Measure an item: a tool that is a checkpoint."""
    with happening(f"tool measure {item}"):
        await asyncio.sleep(world.pause())
        return f"{item} is {len(item)} long"


LOOK, WEIGH = Tool("look", look), Tool("weigh", weigh)
COLLECT = Tool("collect", collect, changes_state=True)
PUBLISH = Tool("publish", publish, approval=True)
DESTROY = Tool("destroy", destroy, approval=True)
CONSULT = Tool("consult", consult, has_own_calls=True)
MEASURE = Tool("measure", measure, has_own_calls=True)


def _calls(agent: str, turn: int, *asked: tuple[str, str]) -> Turn:
    calls = (Call(tool, item, f"{agent}_{turn}_{n}") for n, (tool, item) in enumerate(asked))
    return Turn(calls=tuple(calls), input_tokens=20 + turn, output_tokens=7)


def _two_rounds(name: str, item: str) -> Agent:
    """An agent with three rounds: three parallel tool calls, one call, a text."""
    return Agent(
        name,
        (
            _calls(name, 1, ("look", f"{item}1"), ("look", f"{item}2"), ("weigh", f"{item}3")),
            _calls(name, 2, ("weigh", f"{item}4")),
            Turn(f"{name} has seen it all"),
        ),
        (LOOK, WEIGH),
    )


ALPHA, BETA = _two_rounds("alpha", "a"), _two_rounds("beta", "b")
_LEAF = Agent(
    "leaf", (_calls("leaf", 1, ("look", "l1"), ("look", "l2")), Turn("leaf is done")), (LOOK,)
)
_TWIG = Agent("twig", (_calls("twig", 1, ("weigh", "t1")), Turn("twig is done")), (WEIGH,))
TREE = Agent(
    "tree",
    (_calls("tree", 1, ("leaf", "x"), ("twig", "y"), ("look", "z")), Turn("tree is done")),
    (LOOK,),
    agents=(_LEAF, _TWIG),
)
COLLECTOR = Agent(
    "collector",
    (
        _calls("collector", 1, ("collect", "c1")),
        _calls("collector", 2, ("collect", "c2"), ("look", "c3")),
        Turn("collector is done"),
    ),
    (COLLECT, LOOK),
)
EDITOR = Agent(
    "editor",
    (
        _calls("editor", 1, ("publish", "e1"), ("destroy", "e2"), ("look", "e3")),
        Turn("editor is done"),
    ),
    (PUBLISH, DESTROY, LOOK),
)
ASKER = Agent(
    "asker",
    (_calls("asker", 1, ("consult", "q1"), ("measure", "q2")), Turn("asker is done")),
    (CONSULT, MEASURE),
)
STUBBORN = Agent(
    "stubborn", (Turn("stubborn is done", fails=2), Turn("never asked")), (), requests=3
)
DOWN = Agent("down", (Turn("never said", fails=100),))
GUARDED = Agent(
    "guarded",
    (_calls("guarded", 1, ("look", "g1")), Turn("guarded is done")),
    (LOOK,),
    guard=Agent("guard", (Turn("yes"),)),
)
FORBIDDEN = Agent("forbidden", (Turn("too late"),), guard=Agent("censor", (Turn("no"),)))


async def linger(item: str) -> str:
    """Take longer than the kit waits for a process: only a cancellation ends it."""
    with happening(f"tool linger {item}"):
        await asyncio.sleep(3600)
        return item


SLOW = Agent(
    "slow", (_calls("slow", 1, ("linger", "s1")), Turn("slow is done")), (Tool("linger", linger),)
)


async def _alone(harness: Harness) -> Any:
    return asdict(await harness.run(ALPHA, "begin"))


async def _talk(harness: Harness, agent: Agent) -> Any:
    return asdict(await harness.run(agent, "begin"))


async def _pair(harness: Harness) -> Any:
    return await asyncio.gather(*[_talk(harness, agent) for agent in (ALPHA, BETA, ALPHA)])


async def _nested(harness: Harness) -> Any:
    return asdict(await harness.run(TREE, "begin"))


async def _state(harness: Harness) -> Any:
    return asdict(await harness.run(COLLECTOR, "begin", state={"items": ["first"]}))


async def _approval(harness: Harness) -> Any:
    return asdict(await harness.run(EDITOR, "begin"))


async def _own_calls(harness: Harness) -> Any:
    return asdict(await harness.run(ASKER, "begin"))


async def _retries(harness: Harness) -> Any:
    return asdict(await harness.run(STUBBORN, "begin"))


async def _down(harness: Harness) -> Any:
    try:
        await harness.run(DOWN, "begin")
    except Exception as error:
        # The body continues, so the failure is recorded, and every later process raises it again.
        again = await harness.run(ALPHA, "begin")
        return [_classes(error), asdict(again)]
    return "it answered"


async def _guard(harness: Harness) -> Any:
    passed = await harness.run(GUARDED, "begin")
    try:
        await harness.run(FORBIDDEN, "begin")
    except Exception as error:
        return [asdict(passed), _classes(error), asdict(await harness.run(ALPHA, "begin"))]
    return "the guard stopped nothing"


async def _cancel(harness: Harness) -> Any:
    slow = asyncio.create_task(_talk(harness, SLOW))
    first = await _talk(harness, ALPHA)
    slow.cancel()
    ended = await asyncio.gather(slow, return_exceptions=True)
    try:
        await asyncio.wait_for(_talk(harness, SLOW), 0.05)
    except TimeoutError:
        return [first, type(ended[0]).__name__, await _talk(harness, BETA)]
    return "it was not slow"


async def _stream(harness: Harness) -> Any:
    pieces = [piece async for piece in harness.stream(ALPHA, "begin")]
    return [pieces, await aio.wait(name="later", schema=str)]


async def _session(harness: Harness) -> Any:
    first = await harness.run(ALPHA, "first", session="talk")
    second = await harness.run(BETA, "second", session="talk")
    return [asdict(first), asdict(second)]


def _classes(error: Exception) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__ if kind not in (BaseException, object)]


@dataclass(frozen=True)
class Conversation:
    """A conversation of the kit.

    Attributes:
        run: runs it with a harness, and returns JSON.
        feature: what the harness must have for it.
        answers: the answer to each wait, by a part of its name or question; a bool answers an
            approval.
        races: whether time decides which calls are made or how many tokens a cancelled one has
            used. Then only the result is the same in each execution.
    """

    run: Callable[[Harness], Awaitable[Any]]
    feature: Feature | None = None
    answers: tuple[tuple[str, Any], ...] = ()
    races: bool = False


CONVERSATIONS: dict[str, Conversation] = {
    "alone": Conversation(_alone),
    "pair": Conversation(_pair),
    "nested": Conversation(_nested, "nested"),
    "state": Conversation(_state, "state"),
    "approval": Conversation(_approval, "approval", (("publish", True), ("destroy", False))),
    "own_calls": Conversation(_own_calls, "own_calls", (("consult", "fine"),)),
    "retries": Conversation(_retries, "retries"),
    "down": Conversation(_down),
    "guard": Conversation(_guard, "guard", races=True),
    "cancel": Conversation(_cancel, "cancel", races=True),
    "stream": Conversation(_stream, "stream", (("later", "continue"),)),
    "session": Conversation(_session, "session"),
}

# The harness of this process, and the events that it has emitted.
used: list[Harness] = []
live: list[Any] = []


@flow
async def conversation_flow(name: str) -> Any:
    """Run a conversation with the harness of this process."""
    with listen(live.append):
        return await CONVERSATIONS[name].run(used[0])


@flow
def blocking_conversation_flow(name: str) -> Any:
    """Run an agent in the body of a sync flow."""
    return asdict(used[0].run_sync(ALPHA, name))
