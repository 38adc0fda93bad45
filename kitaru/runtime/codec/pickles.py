"""Pickling as a fallback. Writing and loading a pickle each need permission.

All pickled parts of a value go into one pickle, so that sharing among them is preserved. Sharing
with the other parts of the value would be lost, so it is rejected.
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
    """Allow pickles of values without an exact form, with the permission of a checkpoint."""
    return True


def came_pickled(value: Any) -> bool:
    """Return whether `value` was loaded from a pickle in this process, and may be pickled again."""
    known = _loaded.get(id(value))
    return known is not None and known() is value


# By identity: other objects of the same class have no permission.
_loaded: dict[int, Callable[[], Any]] = {}


def remember(value: Any) -> None:
    """Record that `value` was loaded from a pickle."""
    identity = id(value)
    try:
        _loaded[identity] = weakref.ref(value, lambda _: _loaded.pop(identity, None))
    except TypeError:
        # The object cannot be tracked with a weak reference. It must stay alive, or another object
        # could reuse its identity.
        _loaded[identity] = lambda: value


class Writer:
    """One pickle of several values; `seen` contains their parts, by identity.

    `seen` also keeps the parts alive, so that no identity is reused meanwhile.
    """

    def __init__(self) -> None:
        # Import pickle only when it is needed.
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
        """Add one value and return its number; exceptions of its class are passed through."""
        self._pickler.dump(value)
        self.count += 1
        return self.count - 1

    def data(self) -> bytes:
        """Return the pickle of all values in order."""
        return self._target.getvalue()


def load(data: bytes, count: int) -> Iterator[Any]:
    """Yield the `count` values of a pickle. This runs code named in the pickle."""
    import pickle

    class Loader(pickle.Unpickler):
        def persistent_load(self, place: Any) -> Any:
            return qualified_names.find(*place)

    loader = Loader(io.BytesIO(data))
    for _ in range(count):
        yield loader.load()


def refused() -> PickleRefused:
    """Return the error for a pickle that is loaded without permission."""
    return PickleRefused(
        "The recorded value holds a pickle, and to load one is to run what it says.",
        help="A checkpoint that says @checkpoint(pickle=True) may return such a value, be given it "
        "in its flow, and kitaru.load it.",
    )


def _place_in_script(value: Any) -> tuple[str, str] | None:
    """Return the module name under which other processes find a script's definitions."""
    named = isinstance(value, type | FunctionType) and value.__module__ == "__main__"
    return qualified_names.name_of(value) if named else None
