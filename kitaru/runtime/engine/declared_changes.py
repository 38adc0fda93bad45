"""Declared changes of a flow's code, for executions that began before the change.

An execution outlives the code that started it: it waits for days, and meanwhile a checkpoint is
called `pay` that was called `send_payment`. To the journal these are two names. Which of the new
names stands for which old one, only the author knows:

    kitaru.renamed("send_payment", checkpoint="pay")
    kitaru.added(checkpoint="audit")
    kitaru.removed(input="currency")

Each declaration is a text such as `checkpoint:send_payment:pay`. An execution records which
declarations its code had when it began. Those are history: the execution uses the new names. Every
other declaration was made later, so that it applies to the execution.

That is decided from the record and the code alone, without a look at what has run. So two processes
with the same code always decide alike, and a process with the earlier code, which may still run,
uses the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kitaru.errors import Diverged, UsageError
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct

Kind = Literal["checkpoint", "wait", "llm", "input"]


class Change(Struct):
    """One declaration: `old` is empty for what was added, `new` for what was removed."""

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
    """Declare that a checkpoint, wait, model call or flow input has another name now.

    Call it at the top level of a module that the flow imports, such as the flow's own file.
    Executions that began before keep the earlier name: recorded calls are found, and waits are
    answered under it. Executions that begin later use the new name. Declare several renames of the
    same thing in the order in which they were made.

    Args:
        old: the earlier name.
        checkpoint: the name that a checkpoint has now.
        wait: the name that a wait has now.
        llm: the name that a call of `kitaru.llm` in a flow's body has now.
        input: the name that an input of the flow has now.

    Raises:
        UsageError: not exactly one new name is passed, or one is not a valid name.

    Example:
        kitaru.renamed("send_payment", checkpoint="pay")
    """
    new = {"checkpoint": checkpoint, "wait": wait, "llm": llm, "input": input}
    _declare("renamed", old, new)


def added(
    *, checkpoint: str | None = None, wait: str | None = None, llm: str | None = None
) -> None:
    """Declare that a checkpoint, wait or model call is new.

    An execution that began before may then make the call where it recorded another one. Without the
    declaration it stops there, because the call may be a recorded one under another name. An input
    that is new needs no declaration, only a default.

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
    """Declare that the flow makes a recorded call no more, or does not need a recorded input.

    An execution that began before then continues without the call, or without the input.

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
    # An input may have any name that Python takes.
    if kind == "input" and isinstance(name, str) and name.isidentifier():
        return name
    return check_name(kind, name)


def declared() -> tuple[str, ...]:
    """Return the declarations that this process has read, in order."""
    return tuple(str(change) for change in _declared)


def input_names(name: str) -> list[str]:
    """Return what a recorded input is called now, the latest name first; itself last."""
    names = [name]
    for change in _declared:
        if change.kind == "input" and change.old == names[-1] and change.new:
            names.append(change.new)
    return names[::-1]


def is_removed_input(name: str) -> bool:
    """Return whether a recorded input is declared to be needed no more."""
    return Change("input", name, "") in _declared


def later_than(history: Sequence[str]) -> tuple[Change, ...]:
    """Return the declarations that are not among those that an execution started with, in order."""
    return tuple(change for change in _declared if str(change) not in history)


def earlier_name(later: Sequence[Change], kind: str, name: str) -> str:
    """Return what `name` was called before the renames among `later`.

    Raises:
        Diverged: the code uses, as another thing, a name that was declared to be an earlier one.
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
