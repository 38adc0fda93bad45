"""Show how the replays of many executions compare with their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.comparison import effort
from kitaru.cli.render.execution import COLORS
from kitaru.runtime.journal.effort import Effort

if TYPE_CHECKING:
    from kitaru.ops.replay_many import Replayed


def show(found: list[Replayed], output: Output) -> None:
    """Write a row for each execution of the cohort, and their sum."""
    if output.as_json:
        items = [one.to_dict() for one in found]
        same = sum(bool(item["same"]) for item in items)
        output.document({"items": items, "count": len(items), "same": same})
        return
    heads = ["execution", "replay", "status", "result", "took", "now"]
    output.table([_row(one) for one in found], heads, empty="no executions")
    if found:
        output.say(_summary(found), hang=0)


def _row(one: Replayed) -> list[str]:
    if one.comparison is None:
        return [one.source, "", label("not replayed", "red"), one.error, "", ""]
    a, b = one.comparison.a, one.comparison.b
    status = label(b.status, COLORS[b.status])
    status = status if a.status == b.status else f"{a.status} → {status}"
    result = "same" if a.result == b.result else label("changed", "yellow")
    return [one.source, b.exec_id, status, result, effort(a.total), effort(b.total)]


def _summary(replayed: list[Replayed]) -> str:
    found = [one.comparison for one in replayed if one.comparison is not None]
    same = sum(one.is_same for one in replayed)
    before = effort(sum((one.a.total for one in found), Effort()))
    now = effort(sum((one.b.total for one in found), Effort()))
    count = counted(len(replayed), "execution")
    return f"{count}, {same} with the same result; {before} before, {now} now"
