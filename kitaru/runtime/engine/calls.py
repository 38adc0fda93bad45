"""The identity of a durable call: callee, arguments and call site."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePath
from types import FrameType
from typing import Any

from kitaru.runtime.engine.retries import INHERITED, Policy
from kitaru.runtime.journal.cache import code_of
from kitaru.runtime.journal.exceptions import is_own, library_of
from kitaru.wire.modules import home_name
from kitaru.wire.records import InvocationKind
from kitaru.wire.structs import Struct

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def _always(_: object) -> bool:
    return True


def _nothing(_: object) -> None:
    pass


class Spec(Struct):
    """The engine's description of a durable function.

    `policy` is its retry policy. `compared` is false if the arguments may differ on a replay
    because nothing depends on them. `fingerprint` identifies the version of the code; it is empty
    if the call is never cached. `capture` is what the decorator records of model calls. `pickle`
    allows pickling of a result that no codec can encode. `depends_on` are the files and variables
    covered by the cache key. `is_valid` decides from the model calls of a cached result whether the
    result may still be reused. `prepare` waits for what the function needs, before the clock of an
    attempt starts. `coroutine` is the function of an async checkpoint as it was defined, for calls
    on a running loop; `function` blocks until it has ended. `is_step`: it is a step of a harness.
    `read` turns the recorded value into that of the call.
    """

    name: str
    function: Callable[..., Any]
    callee: str
    kind: InvocationKind = "checkpoint"
    policy: Policy = INHERITED
    cache: bool = False
    compared: bool = True
    fingerprint: Callable[[], str] = str
    capture: str | None = None
    pickle: bool = False
    depends_on: tuple[str, ...] = ()
    is_valid: Callable[[tuple[dict[str, Any], ...]], bool] = _always
    prepare: Callable[[Callable[..., Any]], None] = _nothing
    coroutine: Callable[..., Any] | None = None
    is_step: bool = False
    read: Callable[[Any], Any] | None = None

    def is_importable(self) -> bool:
        """Return whether another process can import this function by its qualified name."""
        return spec_at(*self.place()) is self

    def place(self) -> tuple[str, str]:
        """Return the module of the function and its qualified name in that module."""
        return self.function.__module__, self.function.__qualname__


class Turn:
    """The turn of a call that is numbered in a scope: `owner`, a task or thread, makes it.

    Calls of one name must be made one after another there. The turn ends with the call.
    """

    __slots__ = ("__weakref__", "is_over", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.is_over = False


class Call(Struct):
    """One invocation in progress: its id is assigned and its arguments are digested.

    `position` is the value of the counters when the id was assigned. `ordinal` is the position in
    the order of the flow's body, 0 if that order is not exact. `renamed` is true if the execution
    records the call under an earlier name. `turn` is that of a call numbered in a scope.
    """

    spec: Spec
    id: str
    args: Args
    kwargs: Kwargs
    digest: str
    opaque: tuple[str, ...]
    size: int
    site: str
    position: int
    ordinal: int = 0
    renamed: bool = False
    turn: Turn | None = None


@contextmanager
def ending(call: Call) -> Iterator[None]:
    """End the turn of a call with the block."""
    try:
        yield
    finally:
        if call.turn is not None:
            call.turn.is_over = True


def spec_at(module: str, qualname: str) -> Spec | None:
    """Return the spec of the checkpoint with that name; None if it does not exist."""
    from kitaru.wire import importing

    try:
        found: Any = importing.import_module(module)
    except ImportError:
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    spec = getattr(found, "spec", None)
    return spec if isinstance(spec, Spec) else None


def cache_code(spec: Spec) -> str:
    """Return the string that identifies a piece of code in the cache."""
    return code_of(spec.callee, spec.name, spec.fingerprint())


def codes_beside(spec: Spec) -> list[str]:
    """Return the cache codes of the checkpoints that the flow of `spec` may call."""
    module = sys.modules.get(spec.function.__module__)
    values = list(vars(module).values()) if module is not None else []
    # Read only attributes set by a class of Kitaru: other objects may run code on attribute access.
    found = [one.spec for one in values if "spec" in vars(type(one))]
    specs = [one for one in found if isinstance(one, Spec) and one.cache and one.fingerprint()]
    return [cache_code(one) for one in specs]


def callee_name(function: Any) -> str:
    """Return the name under which records store a function, the same in a script and in a step.

    It contains only the last part of the module: the import root differs between a checkout and a
    container.
    """
    module = home_name(function).rpartition(".")[2]
    return f"{module}.{function.__qualname__}"


def call_site() -> str:
    """Return the location of the call, as `flow.py:12`: the innermost line outside Kitaru."""
    frame = sys._getframe(1)
    while is_own(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return f"{_file_name(frame.f_code.co_filename)}:{frame.f_lineno}"


def user_site(otherwise: str = "") -> str:
    """Return the innermost line outside of Kitaru and of libraries.

    Without one, as in a task that a library creates, return `otherwise` or `call_site`.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_own(name) and not library_of(name):
            return f"{_file_name(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return otherwise or call_site()


@lru_cache(maxsize=256)
def _file_name(path: str) -> str:
    return PurePath(path).name
