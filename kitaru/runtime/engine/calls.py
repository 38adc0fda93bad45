"""The identity of a durable call: callee, arguments and call site."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from kitaru.runtime.engine.retries import INHERITED, Policy
from kitaru.runtime.journal.cache import code_of
from kitaru.runtime.journal.exceptions import is_own
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
    """What the engine must know of a durable function.

    `policy` says how often it is tried. `compared` is false where the arguments may differ on a
    replay because nothing depends on them. `fingerprint` tells the version of the code, empty where
    no cache may ask. `capture` is what its decorator says is to be kept of model calls. `pickle`
    means that its result may be pickled where nothing else keeps it. `depends_on` are the files and
    variables that its cache key covers. `is_valid` tells from the model calls of a cached result
    whether it still holds. `prepare` waits, before the clock of an attempt starts, for what the
    function needs.
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

    def is_importable(self) -> bool:
        """Return whether another process finds the same function where its name says."""
        return spec_at(*self.place()) is self

    def place(self) -> tuple[str, str]:
        """Return the function's module and its qualified name there."""
        return self.function.__module__, self.function.__qualname__


class Call(Struct):
    """One invocation under way: its id is taken and its arguments are known by digest.

    `position` is the one that the counters had when the id was taken, `ordinal` the place in the
    order of the flow's body, 0 where that is not exact. `renamed` means that the execution knows it
    by an earlier name.
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


def spec_at(module: str, qualname: str) -> Spec | None:
    """Return the spec of the checkpoint with that name; None if there is no such checkpoint."""
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
    """Return what distinguishes a piece of code from all others in the cache."""
    return code_of(spec.callee, spec.name, spec.fingerprint())


def codes_beside(spec: Spec) -> list[str]:
    """Return the cache codes of the checkpoints in the module of `spec`: its flow may call them."""
    module = sys.modules.get(spec.function.__module__)
    values = list(vars(module).values()) if module is not None else []
    # Only what its class gives a `spec`: anything else in the module may act when it is asked.
    found = [one.spec for one in values if "spec" in vars(type(one))]
    specs = [one for one in found if isinstance(one, Spec) and one.cache and one.fingerprint()]
    return [cache_code(one) for one in specs]


def callee_name(function: Any) -> str:
    """Return the name under which records know a function, the same in a script and in a step.

    Only the module's last part: the import root differs between a checkout and a container.
    """
    module = home_name(function).rpartition(".")[2]
    return f"{module}.{function.__qualname__}"


def call_site() -> str:
    """Return `flow.py:12`, the innermost line outside Kitaru that led here."""
    frame = sys._getframe(1)
    while is_own(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return f"{_file_name(frame.f_code.co_filename)}:{frame.f_lineno}"


@lru_cache(maxsize=256)
def _file_name(path: str) -> str:
    return PurePath(path).name
