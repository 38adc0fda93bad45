"""Frames: the live variables at a cut as one graph, and the position in the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kitaru.errors import RecordCorrupt, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine.futures import Future
from kitaru.wire.plan import Block
from kitaru.wire.structs import Struct, field

Variables = dict[str, Any]


class Lost(Struct):
    """Globals that the next process would find in another state, sorted by name.

    `kinds` contains the type of each global whose state cannot be recorded. It is empty if the
    globals have changed.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...] = ()


class Frame(Struct):
    """The state of a flow's body at the start of a block.

    `counters` assign invocation ids. `unread` are failed futures that the body has not read.
    `passed` are the blocks at which a cut was left out since the last cut. `promises` are submitted
    calls that have not started, as `kitaru.runtime.engine.promised_calls` writes them.
    """

    variables: Variables
    counters: dict[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    promises: tuple[dict[str, Any], ...] = ()


def encode_frame(
    frame: Frame, modules: codec.Modules, may_pickle: codec.MayPickle = codec.never
) -> Any:
    """Encode a frame as a document; raise ValueNotEncodable if a variable cannot cross."""
    return {
        "counters": frame.counters,
        "passed": list(frame.passed),
        "promises": list(frame.promises),
        "unread": list(frame.unread),
        "variables": codec.encode_frame(frame.variables, modules, may_pickle),
    }


def decode_frame(
    document: Any,
    modules: codec.Modules,
    future: Callable[[str], Future[Any]],
    *,
    unpickle: bool = False,
) -> Frame:
    """Decode the frame of a document; `future` creates the futures in it."""
    codec.set_future_factory(future)
    try:
        return Frame(
            codec.decode_frame(document["variables"], modules, unpickle=unpickle),
            document["counters"],
            tuple(document["unread"]),
            tuple(document["passed"]),
            tuple(document["promises"]),
        )
    except (KeyError, TypeError) as error:
        raise RecordCorrupt(f"A recorded frame is damaged: {error!r}.") from error
    finally:
        codec.set_future_factory(None)


def handed_on(block: Block, following: Block, before: Variables, returned: Variables) -> Variables:
    """Return the frame of `following` after `block` received `before` and returned `returned`.

    A block returns the variables of its own activation under their bare names, and values for
    another activation under full names. Variables of other activations are passed on unchanged.
    """
    found = {}
    for name in following.live:
        owner, _, variable = name.rpartition(".")
        if owner and name in returned:
            found[name] = returned[name]
        elif owner == block.activation and variable in returned:
            found[name] = returned[variable]
        elif owner != block.activation and name in before:
            found[name] = before[name]
    return found


def passed_in(document: Any) -> list[str]:
    """Return the blocks at which a cut was left out before this frame was written."""
    return list(document["passed"])


def counters_in(document: Any) -> dict[str, int]:
    """Return the counters of invocation ids at the time when a frame was written."""
    return dict(document["counters"])


def promised_in(document: Any) -> list[dict[str, Any]]:
    """Return the promises of submitted calls in a frame's document."""
    return list(document["promises"])


def note_of(error: ValueNotEncodable, variables: Variables, block: Block) -> dict[str, Any]:
    """Return the note on a cut left out before `block` because a variable cannot cross."""
    starts = [n for n in variables if re.match(rf"{re.escape(n)}(\W|$)", error.path)]
    name = max(starts, key=len, default=error.path)
    kind = type(variables[name]).__qualname__ if name in variables else ""
    return _note(block, name, kind, error.message)


def note_of_globals(lost: Lost, block: Block) -> dict[str, Any]:
    """Return the note on a cut left out before `block` because of the state of globals."""
    if not lost.kinds:
        what = f"the module's {', '.join(lost.names)} changed, which another process would not see"
        return _note(block, lost.names[0], "", what)
    named = (f"{name} ({kind})" for name, kind in zip(lost.names, lost.kinds, strict=True))
    what = (
        f"the state of the module's {', '.join(named)} cannot be recorded, and code before and "
        "after this line uses it (kitaru.stateless declares that no result depends on it)"
    )
    return _note(block, lost.names[0], lost.kinds[0], what)


def note_of_calls(ids: list[str], block: Block) -> dict[str, Any]:
    """Return the note on why calls submitted by `block` get no nodes of their own."""
    return _note(block, ids[0], "", f"an argument of {', '.join(ids)} cannot be recorded")


def note_of_tasks(names: list[str], block: Block) -> dict[str, Any]:
    """Return the note on a cut left out before `block` because the body has left tasks running."""
    shown = ", ".join(names[:5]) + (", …" if names[5:] else "")
    return _note(block, "", "task", f"tasks of the flow still run: {shown}")


def _note(block: Block, variable: str, kind: str, message: str) -> dict[str, Any]:
    return {
        "block": block.name,
        "file": block.span.file,
        "line": block.span.line,
        "variable": variable,
        "type": kind,
        "message": message,
    }
