"""Decides how executions side by side are shown: what differs, and what each took."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output, label

if TYPE_CHECKING:
    from kitaru.runtime.executions.comparison import Comparison, Effort, Row, Side

_LONG = 48
_MARKS = {
    "same": ("=", "white"),
    "changed": ("~", "yellow"),
    "only a": ("-", "red"),
    "only b": ("+", "green"),
}


def show(found: Comparison, output: Output) -> None:
    """Write two executions side by side: inputs, invocations, results, and what they took."""
    a, b = found.a, found.b
    head = ["", "", f"a  {a.exec_id}", f"b  {b.exec_id}"]
    rows = [["", "status", a.status, b.status]]
    rows += list(_pairs("input ", _named(a.inputs), _named(b.inputs)))
    rows += [_row(row) for row in found.rows]
    rows += list(_pairs("", {"result": a.result}, {"result": b.result}))
    rows += [["", "took", took(a), took(b)]]
    for line in grid(head, rows):
        output.say(line)
    output.say("the same" if found.same else "different")


def took(side: Side) -> str:
    """Return what an execution took, and how much of that it ran itself."""
    total = effort(side.total)
    return total if side.total == side.own else f"{total} (own: {effort(side.own)})"


def effort(found: Effort) -> str:
    """Return seconds, tokens and price as people read them."""
    facts = [f"{found.seconds:.2f} s"]
    facts += [f"{found.tokens} tokens"] if found.tokens else []
    # A short call of a small model costs thousandths of a cent.
    facts += [f"${found.cost:.{4 if found.cost >= 0.01 else 6}f}"] if found.cost else []
    return ", ".join(facts)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines, as wide as it needs to be."""
    # A tenth of a second to import, for the few commands that compare.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="")
    for title in head:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text.from_ansi, row))
    console = Console(width=10_000, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def _row(row: Row) -> list[str]:
    mark, color = _MARKS[row.change]
    return [label(mark, color), row.id, _side(row.a), _side(row.b)]


def _side(shown: dict[str, Any] | None) -> str:
    if shown is None:
        return ""
    how = [] if shown["how"] == "ran" else [shown["how"]]
    how += [f"{shown['seconds']:.2f} s"] if shown["seconds"] and not how else []
    how += [f"{shown['tokens']} tokens"] if shown["tokens"] else []
    value = f"failed: {shown['error']}" if shown["status"] == "failed" else short(_value(shown))
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
