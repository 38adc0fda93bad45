"""Decides what identifies one call of a durable function: who is called, with what, from where."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kitaru.wire.modules import recorded_name
from kitaru.wire.records import InvocationKind

_OWN_CODE = str(Path(__file__).parent.parent) + os.sep


@dataclass(frozen=True, slots=True)
class Spec:
    """What the engine must know of a durable function.

    `retries` counts attempts after the first, `None` meaning what the flow says. `compared` is
    false where the arguments may differ on a replay because nothing depends on them. `fingerprint`
    tells the version of the code, empty where no cache may ask.
    """

    name: str
    function: Callable[..., Any]
    callee: str
    kind: InvocationKind = "checkpoint"
    retries: int | None = None
    cache: bool = False
    compared: bool = True
    fingerprint: Callable[[], str] = str


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation under way: its id is taken and its arguments are known by digest.

    `position` is the one that the counters had when the id was taken.
    """

    spec: Spec
    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    digest: str
    opaque: tuple[str, ...]
    size: int
    site: str
    position: int


def callee_name(function: Any) -> str:
    """Return the name under which records know a function, the same in a script and in a step.

    Only the module's last part: the import root differs between a checkout and a container.
    """
    module = recorded_name(function.__module__).rpartition(".")[2]
    return f"{module}.{function.__qualname__}"


def call_site() -> str:
    """Return `flow.py:12`, the innermost line outside Kitaru that led here."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OWN_CODE) and frame.f_back is not None:
        frame = frame.f_back
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"
