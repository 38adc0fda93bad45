"""Stands for the engine where calls are submitted: each has run at once, its outcome kept by id."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.engine import futures
from kitaru.runtime.engine.futures import Future, Futures, Submission, resolve_futures


@dataclass
class Submitted:
    """The outcomes of one run's submitted calls, for every process that it goes through."""

    outcomes: dict[str, tuple[Any, Exception | None]] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    # The calls that are promised and not made yet.
    promised: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = field(default_factory=dict)

    def methods(self, call: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        """Return what a checkpoint has beside being called; `call` records and gives a copy."""

        def submit(*args: Any, **kwargs: Any) -> Future[Any]:
            args, kwargs = resolve_futures(args), resolve_futures(kwargs)
            id = self._id("call")
            try:
                self.outcomes[id] = codec.encode(at_once(call(*args, **kwargs))), None
            except Exception as error:
                self.outcomes[id] = None, error
                self.unread[id] = None
            return self.future(id)

        def promise(*args: Any, **kwargs: Any) -> Future[Any]:
            # Only steps have promises, so they have numbers of their own.
            id = self._id("promise")
            self.outcomes[id] = None, None
            made = call(*args, **kwargs)
            self.promised[id] = lambda: made
            return self.future(id)

        def map(*iterables: Any, **common: Any) -> Futures[Any]:
            return Futures(tuple(submit(*args, **common) for args in zip(*iterables, strict=False)))

        def product(*iterables: Any, **common: Any) -> Futures[Any]:
            return Futures(tuple(submit(*a, **common) for a in itertools.product(*iterables)))

        return {"submit": submit, "map": map, "product": product, "promise": promise}

    def _id(self, kind: str) -> str:
        return f"{kind} {sum(id.startswith(kind) for id in self.outcomes)}"

    def future(self, id: str) -> Future[Any]:
        """Return the future of a call, as a process does that did not submit it."""
        # The engine's own class, so that no future can ask what this module does not have.
        asked = futures.Submitted(_run, self.read, _check_may_block, self.awaited, most=1)
        return Future(asked, id, settled=True)

    async def awaited(self, future: Future[Any]) -> Any:
        """Return the result of a call on an event loop; make it if it is promised."""
        if future.id in self.promised:
            await self.make(future.id)
        else:
            await asyncio.sleep(0)
        return future.read()

    async def make(self, id: str) -> None:
        """Make a promised call, as the task that awaits it does, or a node of its own."""
        made = self.promised.pop(id)
        try:
            self.outcomes[id] = codec.encode(await made()), None
        except Exception as error:
            self.outcomes[id] = None, error

    def finish(self, result: Any) -> Any:
        """Return a flow's result; raise what nobody has asked for."""
        for id in list(self.unread):
            self.future(id).result()
        return result

    def read(self, future: Future[Any]) -> tuple[Any, Exception | None]:
        document, error = self.outcomes[future.id]
        self.unread.pop(future.id, None)
        return codec.decode(document), error


def at_once(value: Any) -> Any:
    """Return the value of a checkpoint, which runs to its end if it is async."""
    while isinstance(value, Coroutine):
        try:
            for _ in range(100_000):
                value.send(None)
        except StopIteration as end:
            value = end.value
        else:
            raise AssertionError("the coroutine does not end")
    return value


def _run(submission: Submission) -> None:
    raise AssertionError(f"{submission.call.id} has run where it was submitted")


def _check_may_block(future: Future[Any]) -> None:
    """No flow of these tests runs on an event loop."""
