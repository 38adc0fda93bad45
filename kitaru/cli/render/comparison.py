"""Show two executions side by side: their differences, duration, tokens and cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import COLORS, Output, counted, label
from kitaru.wire.printable import styled

if TYPE_CHECKING:
    from kitaru.runtime.executions.comparison import Comparison, Row, Side
    from kitaru.runtime.journal.effort import Effort
    from kitaru.runtime.journal.json_diff import Difference

_LONG = 48
_MOST_LINES = 12
_WIDEST = 160
_COLORS = {"-": "red", "+": "green", "@": "cyan"}
_MARKS = {
    "same": ("=", "white"),
    "changed": ("~", "yellow"),
    "only a": ("-", "red"),
    "only b": ("+", "green"),
}


def show(found: Comparison, output: Output, *, full: bool = False) -> None:
    """Write two executions side by side, then what differs: inputs, invocations, results.

    At most 12 lines are written of one value, each at most 160 characters, unless `full`.
    """
    a, b = found.a, found.b
    rows = [["", "execution", a.exec_id, b.exec_id], ["", "status", a.status, b.status]]
    rows += list(_pairs("input ", _named(a.inputs), _named(b.inputs)))
    rows += [_row(row) for row in found.rows]
    rows += list(_pairs("", {"result": a.result}, {"result": b.result}))
    rows += [["", "took", took(a), took(b)]]
    output.table(rows, ["", "", "a", "b"])
    if sum(found.counts.values()) > len(found.rows):
        output.note(", ".join(f"{count:,} {change}" for change, count in found.counts.items()))
    if found.next is not None:
        output.note(f"there are more that differ: --skip {found.next}", hang=2)
    for line in _details(found, full):
        output.say(line)
    output.say("the same" if found.same else "different")


def _details(found: Comparison, full: bool) -> Iterator[str]:
    for row in found.rows:
        yield from _of(row.id, row.differences, full)
        if row.change == "changed" and row.result:
            yield ""
            yield f"{styled(f'{row.id}: arguments', '1')} differ, the result does not"
    yield from _of("flow", found.differences, full)


def _of(id: str, differing: Sequence[Difference], full: bool) -> Iterator[str]:
    for name in dict.fromkeys(each.of for each in differing):
        shown = [line for each in differing if each.of == name for line in _lines(each)]
        yield ""
        yield styled(f"{id}: {name}", "1")
        for line in shown if full else shown[:_MOST_LINES]:
            cut = line if full or len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
            yield f"  {_colored(cut, line[:1])}"
        if not full and len(shown) > _MOST_LINES:
            yield f"  … {counted(len(shown) - _MOST_LINES, 'more line')}: --full shows all"


def _colored(text: str, mark: str) -> str:
    return styled(text, str(COLORS[_COLORS[mark]])) if mark in _COLORS else text


def _lines(found: Difference) -> Iterator[str]:
    place = "" if found.path == "$" else f"{found.path}: "
    if found.lines:
        yield from [place.rstrip()] if place else []
        yield from found.lines
    elif found.how == "added":
        yield f"+ {place}{_json(found.new)}"
    elif found.how == "removed":
        yield f"- {place}{_json(found.old)}"
    else:
        yield f"{place}{_json(found.old)} → {_json(found.new)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def took(side: Side) -> str:
    """Return the effort of an execution, and the part that it ran itself."""
    total = effort(side.total)
    return total if side.total == side.own else f"{total} (own: {effort(side.own)})"


def effort(found: Effort) -> str:
    """Format seconds, tokens and price."""
    facts = [f"{found.seconds:.2f} s"]
    facts += [f"{found.tokens} tokens"] if found.tokens else []
    facts += [dollars(found.cost)] if found.cost else []
    return ", ".join(facts)


def dollars(cost: float) -> str:
    """Format a price in US dollars, such as `$0.0123`."""
    if not cost:
        return "$0"
    # A short call of a small model costs thousandths of a cent.
    return f"${cost:.{4 if cost >= 0.01 else 6}f}"


def _row(row: Row) -> list[str]:
    mark, color = _MARKS[row.change]
    return [label(mark, color), row.id, _side(row.a), _side(row.b)]


def _side(shown: dict[str, Any] | None) -> str:
    if shown is None:
        return ""
    how = [] if shown["how"] == "ran" else [shown["how"]]
    how += [f"{shown['seconds']:.2f} s"] if shown["seconds"] and not how else []
    how += [f"{shown['tokens']} tokens"] if shown["tokens"] else []
    match shown["status"]:
        case "failed":
            value = f"failed: {shown['error']}"
        case "cancelled":
            value = "cancelled"
        case _:
            value = short(_value(shown))
    return f"{value}  ({', '.join(how)})" if how else value


def _value(shown: dict[str, Any]) -> Any:
    is_large = shown["value"] is None and shown["size"] > len("null")
    return f"<{shown['size']:,} bytes>" if is_large else shown["value"]


def _pairs(prefix: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[list[str]]:
    for name in {**a, **b}:
        same = name in a and name in b and a[name] == b[name]
        mark, color = _MARKS["same" if same else "changed"]
        values = [short(side[name]) if name in side else "" for side in (a, b)]
        yield [label(mark, color), f"{prefix}{name}", *values]


def _named(inputs: Any) -> dict[str, Any]:
    return inputs if isinstance(inputs, dict) else {"": inputs}


def short(value: Any) -> str:
    """Return a value as one line of at most 48 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= _LONG else line[: _LONG - 1] + "…"
