"""Show why a flow is cut as it is: a tree of its parts, then each uncut part with its change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import LINES, Output, counted, label
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.ops.explain import Cost, Explanation, Part, Proposal

_WIDTH = 9
_COLORS = {"cut": "green", "region": "yellow", "condition": "yellow", "variable": "yellow"}


def show(found: Explanation, output: Output) -> None:
    """Write an explanation for people."""
    title = f"{label(found.flow, 'green')} for {found.title}: {_starts(found.cost)}"
    output.say(title, hang=2)
    output.table(list(map(_row, found.parts[:LINES])))
    if len(found.parts) > LINES:
        output.say(f"  … {len(found.parts) - LINES} more, all of them with --json")
    output.say(f"\n{_summary(found)}", hang=2)
    for part in found.uncut:
        output.say(f"\n{label(part.code, 'yellow')} {_place(part)} {part.reason}", hang=2)
        before = ""
        for head, text in _lines(part, found):
            output.say(f"{'' if head == before else head:<{_WIDTH}}{text}", hang=_WIDTH)
            before = head
        if part.proposal:
            output.say()
            for line in part.proposal.diff.removesuffix("\n").split("\n"):
                output.say(f"    {line}", block=True)


def show_all(found: Sequence[Explanation], output: Output) -> None:
    """Write the explanations of several targets as a table: starts now, and with each change."""
    places = list(dict.fromkeys((_place(part), part.code) for one in found for part in one.uncut))
    if not places:
        output.say("every call has a step of its own, on every target")
        return
    heads = ("", "", *(one.target for one in found))
    rows = [("containers", "now", *(str(one.cost.containers) for one in found))]
    for place, code in places:
        rows.append((place, code, *(_change(one, place, code) for one in found)))
    output.say("\ncontainers in a row, now and with the change of one place:")
    output.table(rows, heads)


def to_json(found: Explanation) -> dict[str, Any]:
    """Return an explanation as the command line's JSON."""
    document = asdict(found)
    for part, shown in zip(found.parts, document["parts"], strict=True):
        shown["span"] = fields_of(part.span)
    return document


def _row(part: Part) -> tuple[str, ...]:
    kind = label(part.kind, _COLORS[part.kind]) if part.kind in _COLORS else part.kind
    reason = f"{part.code} {part.reason}" if part.code.startswith("KIT") else part.reason
    if part.silenced:
        reason += " (silenced)"
    return ("  " + kind, f"{'  ' * part.depth}{part.name}", _place(part), reason)


def _place(part: Part) -> str:
    span = part.span
    last = f"-{span.end_line}" if span.end_line > span.line and part.kind != "condition" else ""
    return f"{span.file}:{span.line}{last}"


def _summary(found: Explanation) -> str:
    silenced = sum(part.silenced for part in found.parts)
    more = f", {silenced} silenced" if silenced else ""
    noun = "place is" if len(found.uncut) == 1 else "places are"
    count = len(found.uncut)
    return f"{f'{count} {noun}' if count else 'no place is'} left uncut{more}"


def _lines(part: Part, found: Explanation) -> Iterator[tuple[str, str]]:
    if part.calls:
        yield "calls", ", ".join(dict.fromkeys(part.calls))
    for text in part.keeps:
        yield "keeps", text
    for text in part.loses:
        yield "loses", text
    if part.again:
        once = "1 call runs" if part.again == 1 else f"{part.again} calls run"
        start = _seconds(found.start_seconds)
        once = f"At most {once}" if part.again > 0 else "The calls that were running run"
        yield "killed", f"{once} again on resume, after one start of about {start}."
    if part.proposal is None:
        tried = counted(part.tried, "change") if part.tried else ""
        proof = f"{tried} tried: still not cut" if tried else "Not tried"
        yield "advice", f"{part.advice[:1].upper()}{part.advice[1:]}. ({proof}.)"
        return
    yield from _proposal(part.proposal, found)


def _proposal(proposal: Proposal, found: Explanation) -> Iterator[tuple[str, str]]:
    yield "change", f"{proposal.what}. (Compiled: it cuts.)"
    yield "meaning", proposal.meaning or "Stays the same."
    if proposal.steps:
        yield "becomes", ", ".join(proposal.steps)
    now = "as now" if proposal.cost == found.cost else f"instead of {_starts(found.cost)}"
    yield "cost", f"{_starts(proposal.cost)}, {now}"


def _starts(cost: Cost) -> str:
    number = f"{counted(cost.containers, 'container')}{' in a row' if cost.containers > 1 else ''}"
    return f"{number}, about {_seconds(cost.seconds)}"


def _seconds(seconds: tuple[int, int]) -> str:
    from kitaru_compiler.cut.latency import shown

    return shown(seconds)


def _change(found: Explanation, place: str, code: str) -> str:
    for part in found.uncut:
        if (_place(part), part.code) == (place, code):
            if part.proposal:
                return str(part.proposal.cost.containers)
            return "still not cut" if part.tried else "not tried"
    return "–"
