"""Declared changes of a flow's code, for executions started before the change.

An execution outlives the code that started it. It may wait for days, and meanwhile the checkpoint
`send_payment` is renamed to `pay`. To the journal these are two names. Only the author knows that
one replaces the other:

    kitaru.renamed("send_payment", checkpoint="pay")
    kitaru.added(checkpoint="audit")
    kitaru.removed(input="currency")

Each declaration is a string such as `checkpoint:send_payment:pay`. An execution records the
declarations that its code had when it started. Those belong to the past, because the execution
already uses the new names. All other declarations were made later, so they apply to the execution.

This decision depends only on the record and the code, not on the calls that have run. Two processes
with the same code always decide alike. A process with the earlier code, which may still run, uses
the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kitaru.errors import Diverged, UsageError
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct

Kind = Literal["checkpoint", "wait", "llm", "input"]


class Change(Struct):
    """One declaration. `old` is empty for an added name, `new` for a removed name."""

    kind: Kind
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.old}:{self.new}"


_declared: dict[Change, None] = {}


def renamed(
    old: str,
    /,
    *,
    checkpoint: str | None = None,
    wait: str | None = None,
    llm: str | None = None,
    input: str | None = None,
) -> None:
    """Declare that a checkpoint, wait, model call or flow input was renamed.

    Call it at the top level of a module that the flow imports, such as the flow's own file.
    Executions started before the rename keep the earlier name: their recorded calls are found, and
    their waits are answered under it. Executions started later use the new name. Declare several
    renames of the same thing in the order in which they were made.

    Args:
        old: the earlier name.
        checkpoint: the new name of a checkpoint.
        wait: the new name of a wait.
        llm: the new name of a call of `kitaru.llm` in a flow's body.
        input: the new name of an input of the flow.

    Raises:
        UsageError: not exactly one new name is passed, or a name is not valid.

    Example:
        kitaru.renamed("send_payment", checkpoint="pay")
    """
    new = {"checkpoint": checkpoint, "wait": wait, "llm": llm, "input": input}
    _declare("renamed", old, new)


def added(
    *, checkpoint: str | None = None, wait: str | None = None, llm: str | None = None
) -> None:
    """Declare that a checkpoint, wait or model call is new.

    An execution started before the change may then make the call at a position where it recorded
    another call. Without the declaration the execution stops there, because the call may be a
    recorded call under another name. A new input needs no declaration, only a default.

    Raises:
        UsageError: not exactly one name is passed, or it is not a valid name.

    Example:
        kitaru.added(checkpoint="audit")
    """
    _declare("added", "", {"checkpoint": checkpoint, "wait": wait, "llm": llm})


def removed(
    *,
    checkpoint: str | None = None,
    wait: str | None = None,
    llm: str | None = None,
    input: str | None = None,
) -> None:
    """Declare that a recorded call or a recorded input was removed from the flow.

    Executions started before the change then continue without the call or the input.

    Raises:
        UsageError: not exactly one name is passed, or it is not a valid name.

    Example:
        kitaru.removed(input="currency")
    """
    old = {"checkpoint": checkpoint, "wait": wait, "llm": llm, "input": input}
    kind, name = _only("removed", old)
    _declared[Change(kind, name, "")] = None


def _declare(function: str, old: str, new: dict[str, str | None]) -> None:
    kind, name = _only(function, new)
    earlier = _checked(kind, old) if function == "renamed" else ""
    if earlier == name:
        raise UsageError(f"kitaru.{function}: {old!r} is the earlier and the new name.")
    _declared[Change(kind, earlier, name)] = None


def _only(function: str, names: dict[str, str | None]) -> tuple[Kind, str]:
    passed = [(kind, name) for kind, name in names.items() if name is not None]
    if len(passed) != 1:
        raise UsageError(
            f"kitaru.{function} takes exactly one of {', '.join(f'{kind}=' for kind in names)}.",
            help="Write one call for each name.",
        )
    kind, name = passed[0]
    return kind, _checked(kind, name)  # type: ignore[return-value]


def _checked(kind: str, name: str) -> str:
    # An input may have any name that is valid in Python.
    if kind == "input" and isinstance(name, str) and name.isidentifier():
        return name
    return check_name(kind, name)


def declared() -> tuple[str, ...]:
    """Return the declarations of the modules that this process has loaded, in order."""
    return tuple(str(change) for change in _declared)


def input_names(name: str) -> list[str]:
    """Return the current names of a recorded input, the latest first and the recorded name last."""
    names = [name]
    for change in _declared:
        if change.kind == "input" and change.old == names[-1] and change.new:
            names.append(change.new)
    return names[::-1]


def is_removed_input(name: str) -> bool:
    """Return whether a recorded input is declared as removed."""
    return Change("input", name, "") in _declared


def later_than(history: Sequence[str]) -> tuple[Change, ...]:
    """Return the declarations made after the start of an execution, in order."""
    return tuple(change for change in _declared if str(change) not in history)


def earlier_name(later: Sequence[Change], kind: str, name: str) -> str:
    """Return the name that `name` had before the renames in `later`.

    Raises:
        Diverged: the code uses the earlier name of a rename for something else.
    """
    earlier = name
    for change in reversed(later):
        if change.kind == kind and change.new == earlier and change.old:
            earlier = change.old
    if earlier == name and any(c.kind == kind and c.old == name and c.new for c in later):
        new = next(c.new for c in later if c.kind == kind and c.old == name and c.new)
        raise Diverged(
            f'The {kind} "{name}" has the name that kitaru.renamed declares as the earlier name of '
            f'"{new}". In executions that started before, the two cannot be distinguished.',
            help=f"Give the new {kind} a name that was never used.",
        )
    return earlier
