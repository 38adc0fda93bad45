"""The list of executions, and two executions side by side."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from kitaru.errors import UsageError
from kitaru.ops.access import VIEWER
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.render import page
from kitaru.server.pages.texts import money, visible
from kitaru.status import ExecutionStatus

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query()]

_LISTED = 50
_ROWS = 100
_STATUSES = (
    "waiting",
    "sleeping",
    "queued",
    "running",
    "failed",
    "completed",
    "interrupted",
    "cancelled",
)
_PERIODS = {"": None, "1h": timedelta(hours=1), "1d": timedelta(days=1), "7d": timedelta(days=7),
            "30d": timedelta(days=30)}  # fmt: skip
# `flow:review status:failed kayaks`
_WORD = re.compile(r'(?:(flow|status|tag|since|(?:tag|input)\.[^\s:]+):)?("[^"]*"|\S+)')
# A longer text is compared by lines: the comparison of words takes quadratic time.
_MOST_WORDS = 2_000


@router.get("/executions")
@needs(VIEWER)
def list_executions(
    request: Request, client: Client, q: Text = "", flow: Text = "", status: Text = "",
    tag: Text = "", since: Text = "", cursor: Text = "",
    where: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006
) -> Response:  # fmt: skip
    """List executions."""
    asked = {"flow": flow, "status": status, "tag": tag, "since": since}
    conditions = list(where)
    text = _search(q, asked, conditions)
    if asked["status"] and asked["status"] not in set(ExecutionStatus):
        raise UsageError(
            f'There is no status "{asked["status"]}".',
            help=f"Use one of: {', '.join(ExecutionStatus)}",
        )
    if asked["since"] not in _PERIODS:
        raise UsageError(
            f'"{asked["since"]}" is not a period.',
            help=f"Use one of: {', '.join(filter(None, _PERIODS))}",
        )
    period = _PERIODS[asked["since"]]
    found = client.executions.page(
        flow=asked["flow"] or None,
        status=asked["status"] or None,
        tag=asked["tag"] or None,
        text=text,
        since=None if period is None else datetime.now(UTC) - period,
        limit=_LISTED,
        within=10_000,
        after=cursor,
        counts=False,
        where=conditions,
    )

    def link(**changes: Any) -> str:
        """Return the address of this list with other filters, from its start."""
        given = {**asked, "q": text, "where": conditions, **changes}
        query = urlencode({name: value for name, value in given.items() if value}, doseq=True)
        return f"/executions?{query}" if query else "/executions"

    return page(
        request, "executions.html",
        found=found, q=text, cursor=cursor, link=link, statuses=_STATUSES, asked=asked,
        where=conditions,
        periods=[name for name in _PERIODS if name], limit=_LISTED,
    )  # fmt: skip


@router.get("/executions/{a}/compare/{b}")
@needs(VIEWER)
def compare_executions(
    request: Request, client: Client, a: str, b: str, skip: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Show the differences of execution `b` from `a`."""
    found = client.executions.diff(a, b, limit=_ROWS, skip=skip)
    differences = [*found.differences]
    return page(
        request, "compare.html",
        found=found, skip=skip, sentence=_sentence(found), marked=marked,
        differences=differences, differing=sum(found.counts.values()) - found.counts.get("same", 0),
    )  # fmt: skip


def _search(typed: str, asked: dict[str, str], where: list[str]) -> str:
    """Set the filters that a search contains, add its conditions, and return its other words."""
    words = []
    for name, value in _WORD.findall(typed):
        value = value.strip('"')
        if "." in name:
            where.append(f"{name}={value}")
        elif name:
            asked[name] = value
        else:
            words.append(value)
    return " ".join(words)


def _sentence(found: Any) -> str:
    """Return the difference between two executions in a sentence."""
    if found.same:
        return "Inputs, invocations and results are the same."
    parts = []
    cost_a, cost_b = found.a.own.cost, found.b.own.cost
    if cost_a is not None and cost_b is not None and cost_a != cost_b:
        less = "less" if cost_b < cost_a else "more"
        parts.append(f"The second cost {money(abs(cost_b - cost_a))} {less}")
    seconds = found.b.own.seconds - found.a.own.seconds
    if abs(seconds) >= 0.1:
        less = "less" if seconds < 0 else "more"
        parts.append(f"{'and took' if parts else 'The second took'} {abs(seconds):.1f} s {less}")
    changed = sum(found.counts.values()) - found.counts.get("same", 0)
    total = sum(found.counts.values())
    rest = f"{changed} of {total} invocations differ." if changed else "No invocation differs."
    return f"{' '.join(parts)}. {rest}" if parts else rest


def marked(a: Any, b: Any) -> tuple[Markup, Markup]:
    """Return two values as HTML with the words marked that differ."""
    texts = [value if isinstance(value, str) else str(value) for value in (a, b)]
    words = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in texts]
    if max(map(len, words)) > _MOST_WORDS:
        words = [io.StringIO(text).readlines()[:_MOST_WORDS] for text in texts]
    left: list[Markup] = []
    right: list[Markup] = []
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    for change, i, j, m, n in matcher.get_opcodes():
        removed, added = visible("".join(words[0][i:j])), visible("".join(words[1][m:n]))
        if change == "equal":
            left.append(removed)
            right.append(added)
            continue
        if removed:
            left.append(Markup("<del>{}</del>").format(removed))
        if added:
            right.append(Markup("<ins>{}</ins>").format(added))
    return Markup("").join(left), Markup("").join(right)
