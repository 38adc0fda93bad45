"""Decides how many executions are replayed with one thing changed, and how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from kitaru.cli.comparisons import effort, grid
from kitaru.cli.execution import COLORS
from kitaru.cli.output import Output, counted, label
from kitaru.errors import EnvironmentFailure, KitaruError, StateError
from kitaru.runtime.executions.comparison import Effort

if TYPE_CHECKING:
    from kitaru.cli.changes import Asked
    from kitaru.client import KitaruClient
    from kitaru.runtime.executions.comparison import Comparison
    from kitaru.runtime.recording.journal import Journal


@dataclass(frozen=True, slots=True)
class Replayed:
    """One execution of the cohort: how its replay compares, or why there is none."""

    source: str
    found: Comparison | None = None
    error: str = ""

    @property
    def came_out_same(self) -> bool:
        """Whether both ended alike, with the same result, however they came to it."""
        if self.found is None:
            return False
        a, b = self.found.a, self.found.b
        return (a.status, a.result) == (b.status, b.result)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        if self.found is None:
            return {"source": self.source, "replay": None, "same": False, "error": self.error}
        sides = {"a": asdict(self.found.a), "b": asdict(self.found.b)}
        replay = self.found.b.exec_id
        return {"source": self.source, "replay": replay, "same": self.came_out_same, **sides}


def replay_cohort(
    client: KitaruClient,
    asked: Asked,
    where: Mapping[str, str],
    limit: int,
    output: Output,
) -> int:
    """Replay the newest executions of a kind, one after the other, and show how they compare.

    Those that still run, and replays, are left out. Returns 1 when one could not be replayed or
    failed, else 0.
    """
    sources = list(islice(_sources(client, where), limit))
    replayed = [_replay(client, asked, journal, output) for journal in sources]
    if output.as_json:
        items = [one.to_dict() for one in replayed]
        same = sum(bool(item["same"]) for item in items)
        output.document({"items": items, "count": len(items), "same": same})
    else:
        for line in _table(replayed):
            output.say(line)
    return 1 if any(one.found is None or one.found.b.status == "failed" for one in replayed) else 0


def _sources(client: KitaruClient, where: Mapping[str, str]) -> Iterator[Journal]:
    for item in client.executions.each(flow=where.get("flow"), status=where.get("status")):
        journal = client.executions.get(item["exec_id"]).journal
        if item["status"] != "running" and journal.execution.replay is None:
            yield journal


def _replay(client: KitaruClient, asked: Asked, source: Journal, output: Output) -> Replayed:
    if not output.as_json:
        output.note(f"replaying {source.exec_id}")
    try:
        exec_id = _run(client, asked, source)
    except EnvironmentFailure:
        raise
    except KitaruError as error:
        return Replayed(source.exec_id, error=error.message)
    return Replayed(source.exec_id, client.executions.diff(source.exec_id, exec_id))


def _run(client: KitaruClient, asked: Asked, source: Journal) -> str:
    if source.execution.mode == "deployed":
        raise StateError("It does not run here but on its target.")
    if source.execution.mode == "local":
        handle = asked.replay(client, source.exec_id)
        handle.settle()
        return handle.exec_id
    from kitaru.cli.dry_runs import begin_replay, play

    exec_id = begin_replay(asked, source, client)
    play(exec_id, source.store.url)
    return exec_id


def _table(replayed: list[Replayed]) -> list[str]:
    if not replayed:
        return ["no executions"]
    head = ["execution", "replay", "status", "result", "took", "now"]
    return [*grid(head, [_row(one) for one in replayed]), _summary(replayed)]


def _row(one: Replayed) -> list[str]:
    if one.found is None:
        return [one.source, "", label("not replayed", "red"), one.error, "", ""]
    a, b = one.found.a, one.found.b
    status = label(b.status, COLORS[b.status])
    status = status if a.status == b.status else f"{a.status} → {status}"
    result = "same" if a.result == b.result else label("changed", "yellow")
    return [one.source, b.exec_id, status, result, effort(a.total), effort(b.total)]


def _summary(replayed: list[Replayed]) -> str:
    found = [one.found for one in replayed if one.found is not None]
    same = sum(one.came_out_same for one in replayed)
    before = effort(sum((one.a.total for one in found), Effort()))
    now = effort(sum((one.b.total for one in found), Effort()))
    count = counted(len(replayed), "execution")
    return f"{count}, {same} with the same result; {before} before, {now} now"
