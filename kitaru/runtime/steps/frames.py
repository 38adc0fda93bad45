"""Decides what crosses a cut: the live variables as one graph, and how far the run has come."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kitaru.errors import RecordCorrupt, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.running.futures import Future
from kitaru.wire.plan import Block
from kitaru.wire.structs import Struct, field

Variables = dict[str, Any]


class Frame(Struct):
    """The state of a flow's body at the start of a block.

    `counters` hand out invocation ids, `unread` are failed futures that nobody has asked, `passed`
    the blocks at which a cut was left out since the last one, `promises` the submitted calls that
    nobody has started yet, as `kitaru.runtime.running.promises` writes them.
    """

    variables: Variables
    counters: dict[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    promises: tuple[dict[str, Any], ...] = ()


def encode_frame(
    frame: Frame, modules: codec.Modules, may_pickle: codec.MayPickle = codec.never
) -> Any:
    """Return the frame's document; raises ValueNotEncodable when a variable cannot cross."""
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
    """Return the frame of a document; `future` makes the futures that it holds."""
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
    """Return the frame of `following` after `block`, which got `before`, has returned `returned`.

    A block returns its own activation's variables by their bare names, and what it passes to
    another by the full one. The variables of other activations pass it by.
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
    """Return the counters of invocation ids as they stood when a frame was written."""
    return dict(document["counters"])


def promised_in(document: Any) -> list[dict[str, Any]]:
    """Return the promises of submitted calls that a frame's document holds."""
    return list(document["promises"])


def note_of(error: ValueNotEncodable, variables: Variables, block: Block) -> dict[str, Any]:
    """Return the note that says why a cut before `block` was left out: a variable cannot cross."""
    starts = [n for n in variables if re.match(rf"{re.escape(n)}(\W|$)", error.path)]
    name = max(starts, key=len, default=error.path)
    kind = type(variables[name]).__qualname__ if name in variables else ""
    return _note(block, name, kind, error.message)


def note_of_globals(names: list[str], block: Block) -> dict[str, Any]:
    """Return the note that says why a cut before `block` was left out: globals were changed."""
    what = f"the module's {', '.join(names)} changed, which another process would not see"
    return _note(block, names[0], "", what)


def note_of_calls(ids: list[str], block: Block) -> dict[str, Any]:
    """Return the note that says why calls that `block` submitted get no nodes of their own."""
    return _note(block, ids[0], "", f"an argument of {', '.join(ids)} cannot be recorded")


def changed(
    before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]], flow: str
) -> list[str]:
    """Return the module globals that are not what they were; those of module `flow` by bare name.

    A module that was imported since is as fresh in another process as it was here.
    """
    found = []
    for module in before.keys() & after.keys():
        old, new = before[module], after[module]
        names = (n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
        found += [name if module == flow else f"{module}.{name}" for name in names]
    return sorted(found)


def _note(block: Block, variable: str, kind: str, message: str) -> dict[str, Any]:
    return {
        "block": block.name,
        "file": block.span.file,
        "line": block.span.line,
        "variable": variable,
        "type": kind,
        "message": message,
    }
