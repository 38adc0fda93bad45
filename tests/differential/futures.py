"""Stands for the engine where calls are submitted: each has run at once, its outcome kept by id."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.engine.futures import Future, Futures, resolve_futures


@dataclass
class Submitted:
    """The outcomes of one run's submitted calls, for every process that it goes through."""

    outcomes: dict[str, tuple[Any, Exception | None]] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)

    def methods(self, call: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        """Return what a checkpoint has beside being called; `call` records and gives a copy."""

        def submit(*args: Any, **kwargs: Any) -> Future[Any]:
            args, kwargs = resolve_futures(args), resolve_futures(kwargs)
            id = f"call {len(self.outcomes)}"
            try:
                self.outcomes[id] = codec.encode(call(*args, **kwargs)), None
            except Exception as error:
                self.outcomes[id] = None, error
                self.unread[id] = None
            return self.future(id)

        def map(*iterables: Any, **common: Any) -> Futures[Any]:
            return Futures(tuple(submit(*args, **common) for args in zip(*iterables, strict=False)))

        def product(*iterables: Any, **common: Any) -> Futures[Any]:
            return Futures(tuple(submit(*a, **common) for a in itertools.product(*iterables)))

        return {"submit": submit, "map": map, "product": product}

    def future(self, id: str) -> Future[Any]:
        """Return the future of a call, as a process does that did not submit it."""
        return Future(self, id, settled=True)  # type: ignore[arg-type]

    def finish(self, result: Any) -> Any:
        """Return a flow's result; raise what nobody has asked for."""
        for id in list(self.unread):
            self.future(id).result()
        return result

    # What a future asks

    def read(self, future: Future[Any]) -> tuple[Any, Exception | None]:
        document, error = self.outcomes[future.id]
        self.unread.pop(future.id, None)
        return codec.decode(document), error
