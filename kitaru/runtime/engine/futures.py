"""Futures of submitted checkpoints."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from kitaru.runtime.engine.execution import Execution
    from kitaru.runtime.engine.outcomes import Outcome

T = TypeVar("T")


class Future(Generic[T]):
    """The result of a submitted checkpoint, to be had with `.result()`.

    `id` is the invocation's. It decodes its value or its exception once: asking twice gives the
    same object. `pickle` shows whether the value may come out of a pickle.

    Example:
        drafts = [draft.submit(topic) for topic in topics]
        texts = [future.result() for future in drafts]
    """

    __slots__ = ("_error", "_execution", "_known", "_settled", "_value", "id", "outcome", "pickle")

    def __init__(
        self, execution: Execution, id: str, *, settled: bool = False, pickle: bool = False
    ) -> None:
        self.id = id
        self.pickle = pickle
        self.outcome: Outcome | None = None
        self._execution = execution
        self._settled = Event()
        self._known = False
        self._value: Any = None
        self._error: BaseException | None = None
        if settled:
            self._settled.set()

    def result(self) -> T:
        """Return the checkpoint's value; waits for it.

        Raises:
            Exception: what the checkpoint raised, the same object every time.
        """
        if not self._settled.is_set():
            self._execution.start_pending()
            self._settled.wait()
        if not self._known:
            self._value, self._error = self._execution.read(self)
            self._known = True
        if self._error is not None:
            self._execution.note_raised(self)
            raise self._error
        return self._value  # type: ignore[no-any-return]

    load = result

    def done(self) -> bool:
        """Return whether `.result()` would answer at once."""
        if not self._settled.is_set():
            self._execution.start_pending()
        return self._settled.is_set()

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome; for the engine."""
        self.outcome = outcome
        self._settled.set()

    def fail(self, error: BaseException) -> None:
        """Take what no record can hold, such as `SystemExit`; raised wherever the body looks."""
        self._known, self._error = True, error
        self._settled.set()

    def check(self) -> None:
        """Raise what `broke` it, if anything did; for the engine."""
        if self.outcome is None and self._error is not None:
            raise self._error

    def frame_state(self) -> list[Any] | None:
        """Return the value that the body holds, if it has asked for it; for the codec."""
        return [self._value] if self._known and self._error is None else None

    def set_frame_state(self, state: list[Any]) -> None:
        """Take the value that the body held in the process before; for the codec."""
        self._known, self._value = True, state[0]

    def __repr__(self) -> str:
        return f"<Future {self.id} {'done' if self._settled.is_set() else 'pending'}>"


class Futures(Struct, Generic[T]):
    """The futures of one `.map()` or `.product()`, in order; a sequence."""

    items: tuple[Future[T], ...]

    def result(self) -> list[T]:
        """Return all values, in order; raises what the first failed one raised."""
        return [future.result() for future in self.items]

    load = result

    def __iter__(self) -> Iterator[Future[T]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Future[T]:
        return self.items[index]


def resolve_futures(arguments: Any) -> Any:
    """Return arguments with each future replaced by its value, waiting for it.

    Futures are found among them, and directly in a list, tuple or dict that is one of them.

    Raises:
        Exception: what a submitted checkpoint raised.
    """
    return _replaced(arguments, _in_containers)


def _in_containers(value: Any) -> Any:
    return _replaced(value, _value_of)


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return `value` with `change` made to its items, itself where that changes none."""
    if isinstance(value, Future | Futures):
        return value.result()
    if type(value) is dict:
        changed = {key: change(item) for key, item in value.items()}
        return changed if any(changed[key] is not item for key, item in value.items()) else value
    if type(value) in (list, tuple):
        items = type(value)(change(item) for item in value)
        return items if any(map(operator.is_not, items, value)) else value
    return value


def _value_of(value: Any) -> Any:
    return value.result() if isinstance(value, Future | Futures) else value
