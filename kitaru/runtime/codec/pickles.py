"""Pickling as a fallback. Writing and loading a pickle each need a permission.

All that one value pickles goes into one pickle, so that its parts share what they shared. What they
share with the rest of the value they would not share any more: that is refused.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from kitaru.errors import PickleRefused
from kitaru.runtime.codec import qualified_names

_PROTOCOL = 5
_ATOMS = (type(None), bool, int, float, complex, str, bytes)
MayPickle = Callable[[Any], bool]


def never(value: Any) -> bool:
    """Allow no pickles."""
    return False


def always(value: Any) -> bool:
    """Allow pickles of values without an exact form, because a checkpoint permits it."""
    return True


def came_pickled(value: Any) -> bool:
    """Return whether `value` came out of a pickle in this process, and so may go into one again."""
    known = _loaded.get(id(value))
    return known is not None and known() is value


# By identity: what else is of the same class was not allowed.
_loaded: dict[int, Callable[[], Any]] = {}


def remember(value: Any) -> None:
    """Note that `value` came out of a pickle."""
    identity = id(value)
    try:
        _loaded[identity] = weakref.ref(value, lambda _: _loaded.pop(identity, None))
    except TypeError:
        # Nobody says when it is gone, so it must stay: another object could take its identity.
        _loaded[identity] = lambda: value


class Writer:
    """One pickle of several values; `seen` holds what they consist of, by identity.

    It keeps that alive, too, so that no identity is used twice meanwhile.
    """

    def __init__(self) -> None:
        # Imported only when a pickle is needed.
        import pickle

        self.seen: dict[int, Any] = {}
        seen = self.seen

        class Observing(pickle.Pickler):
            def persistent_id(self, value: Any) -> Any:
                if type(value) in _ATOMS:
                    return None
                seen[id(value)] = value
                return _place_in_script(value)

        self.count = 0
        self._target = io.BytesIO()
        self._pickler = Observing(self._target, _PROTOCOL)

    def write(self, value: Any) -> int:
        """Add one value and return its number; raises whatever its class raises at that."""
        self._pickler.dump(value)
        self.count += 1
        return self.count - 1

    def data(self) -> bytes:
        """Return the pickle of all values, in their order."""
        return self._target.getvalue()


def load(data: bytes, count: int) -> Iterator[Any]:
    """Yield the `count` values of a pickle: this runs code that the pickle names."""
    import pickle

    class Loader(pickle.Unpickler):
        def persistent_load(self, place: Any) -> Any:
            return qualified_names.find(*place)

    loader = Loader(io.BytesIO(data))
    for _ in range(count):
        yield loader.load()


def refused() -> PickleRefused:
    """Return the error for a pickle that nobody allowed to be loaded."""
    return PickleRefused(
        "The recorded value holds a pickle, and to load one is to run what it says.",
        help="A checkpoint that says @checkpoint(pickle=True) may return such a value, be given it "
        "in its flow, and kitaru.load it.",
    )


def _place_in_script(value: Any) -> tuple[str, str] | None:
    """Return where another process finds what a script defines, which is no `__main__` there."""
    named = isinstance(value, type | FunctionType) and value.__module__ == "__main__"
    return qualified_names.name_of(value) if named else None
