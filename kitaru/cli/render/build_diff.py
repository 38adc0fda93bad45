"""Show the difference between two builds: a line per change, with details below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output, label

if TYPE_CHECKING:
    from kitaru_targets.compare import Change, Difference, Reason

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
MOST_LINES = 6
_NAMED = ("code of ", "use of ", "file ")


def show(found: Difference, output: Output) -> None:
    """Write a difference for people."""
    title = f"{found.b.flow} for {found.b.target}"
    if not found.changes:
        output.say(f"{title}: no difference")
        return
    output.say(f"{title}: {_counts(found)}")
    rows = [_row(change) for change in found.changes]
    for change, line in zip(found.changes, output.rows(rows), strict=True):
        output.say(line, block=True)
        for code in _lines(change):
            output.say(f"      {code}")


def to_json(found: Difference) -> dict[str, Any]:
    """Return a difference as the command line's JSON."""
    sides = {name: {"flow": s.flow, "target": s.target} for name, s in _sides(found)}
    listed = {how: [_json(c) for c in found.changes if c.how == how] for how in _MARKS}
    return {"equal": not found.changes, **sides, **listed}


def _sides(found: Difference) -> Iterator[tuple[str, Any]]:
    yield "a", found.a
    yield "b", found.b


def _json(change: Change) -> dict[str, Any]:
    reasons = [
        {"what": r.what, "before": r.before, "after": r.after, "lines": list(r.lines)}
        for r in change.reasons
    ]
    shown = {"kind": change.kind, "name": change.name, "place": change.place}
    return {**shown, "reasons": reasons} if change.how == "changed" else shown


def _counts(found: Difference) -> str:
    counted = [(sum(c.how == how for c in found.changes), how) for how in _MARKS]
    return ", ".join(f"{count} {how}" for count, how in counted if count)


def _row(change: Change) -> tuple[str, ...]:
    mark, color = _MARKS[change.how]
    kind = "" if change.kind == "step" else f"{change.kind} "
    name = f"  {label(mark, color)} {kind}{change.name}"
    return name, change.place, "; ".join(map(_said, change.reasons))


def _lines(change: Change) -> list[str]:
    lines = [line for reason in change.reasons for line in [*reason.lines, *_order(reason)]]
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"… {more} more"] if more > 1 else lines


def _order(reason: Reason) -> list[str]:
    if reason.what != "comes after":
        return []
    gone = [f"- after {way}" for way in reason.before if way not in reason.after]
    return [*gone, *(f"+ after {way}" for way in reason.after if way not in reason.before)]


def _said(reason: Reason) -> str:
    what, before, after = reason.what, reason.before, reason.after
    if what == "comes after":
        return "order"
    if reason.lines or (what.startswith(_NAMED) and before is not None and after is not None):
        return what
    if isinstance(after, list | tuple):
        new = [f"+{value}" for value in after if value not in before]
        gone = [f"-{value}" for value in before if value not in after]
        return f"{what} {' '.join([*gone, *new]) or 'in another order'}"
    if before is None or after is None:
        value = "" if what.startswith(_NAMED) else f" ({after if before is None else before})"
        return f"{'+' if before is None else '-'}{what}{value}"
    if " " in what and isinstance(before, str):
        what += ":"
    return f"{what} {_value(before)} → {_value(after)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value == "" else str(value)
