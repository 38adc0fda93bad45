"""The tests that an adapter must pass."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest

from kitaru.errors import NotFound
from kitaru.ops.show import show
from kitaru.runtime.engine import waits
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.testing.adapters.conversations import (
    ALPHA,
    CONVERSATIONS,
    DESTROY,
    DOWN,
    PUBLISH,
    STUBBORN,
    Conversation,
)
from kitaru.testing.adapters.harness import Feature, Harness
from kitaru.testing.adapters.kept import CONVERSATION, EXEC_ID, read_kept, restore
from kitaru.testing.adapters.processes import Processes
from kitaru.testing.adapters.script import Moment
from kitaru.testing.adapters.versions import error_about_version
from kitaru.wire.records import InvocationRecord, WaitRequest

_MOST_PROCESSES = 40
# To parse a whole harness takes many seconds.
_FUNCTION = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*[(\[]", re.MULTILINE)
_MEMORY = "/dev/shm"


@dataclass
class Run:
    """An execution, of one or more processes.

    Attributes:
        ended: how the last process ended.
        calls: for each call of a model or tool that began: number of the process, label, record id.
        records: the records at the end.
        problems: what a process did wrong.
        kills: number of processes that were killed.
        asked: for each process that waited, the names of the open waits.
        tokens: the tokens that the records contain.
        live: number of live events that the last process emitted.
    """

    ended: str = ""
    result: Any = None
    error: str = ""
    calls: list[tuple[int, str, str]] = field(default_factory=list)
    records: list[InvocationRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    asked: list[tuple[str, ...]] = field(default_factory=list)
    tokens: int = 0
    live: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of the records, sorted."""
        return sorted(record.id for record in self.records)

    @property
    def labels(self) -> list[str]:
        """The labels of the calls that began, sorted."""
        return sorted(label for _, label, _ in self.calls)


class AdapterTests:
    """The tests of an adapter: subclass it in a test module, with a name that starts with `Test`.

    Attributes:
        harness: the harness and its adapter.
        seeds: number of executions with random kills for each conversation.
        calls: maximum number of calls at which a conversation is killed, chosen by chance. Default:
            each call.

    Example:
        class TestMine(AdapterTests):
            harness = Mine
    """

    harness: ClassVar[type[Harness]]
    seeds: ClassVar[int] = 3
    calls: ClassVar[int | None] = None

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls) -> Iterator[Runs]:
        """Runs conversations in new processes."""
        with cls.runs() as world:
            yield world

    @classmethod
    @contextmanager
    def runs(cls) -> Iterator[Runs]:
        """Run conversations in new processes; other test frameworks use this themselves."""
        processes = Processes(f"{cls.harness.__module__}:{cls.harness.__qualname__}")
        # A killed process loses nothing that it wrote, so its files may be in memory.
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        try:
            with TemporaryDirectory(prefix="conformance-", dir=memory) as folder:
                yield Runs(processes, Path(folder), cls.harness())
        finally:
            processes.close()

    def need(self, feature: Feature | None) -> None:
        """Skip a test of a feature that the harness or its adapter does not have."""
        if feature is not None and feature in self.harness.unsupported:
            pytest.skip(f"{feature}: {self.harness.unsupported[feature]}")

    @pytest.mark.parametrize("name", ["alone", "nested", "guard"])
    def test_outside_a_flow_nothing_is_recorded(self, name: str, world: Runs) -> None:
        """The result is the same as in a flow, and no call has a record."""
        self.need(CONVERSATIONS[name].feature)
        outside, inside = world.run(name, in_flow=False), world.run(name)
        assert outside.ended == "completed", outside.error
        assert outside.result == inside.result, inside.error
        assert {step for _, _, step in outside.calls} == {"-"}, outside.calls
        assert outside.labels == inside.labels

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_each_call_has_one_record(self, name: str, world: Runs) -> None:
        """Each request to a model and each tool call has a record of its own."""
        run = self._undisturbed(name, world)
        steps = [step for _, _, step in run.calls]
        # A cancelled call has a record as well.
        assert "-" not in steps, run.calls
        assert len(steps) == len(set(steps)), run.calls
        assert set(steps) <= set(run.ids), run.calls

    @pytest.mark.parametrize("moment", ["begin", "end"])
    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_killed_at_each_call(self, name: str, moment: Moment, world: Runs) -> None:
        """Killed when the n-th call begins or ends, for each n, the execution returns the same."""
        undisturbed = self._undisturbed(name, world)
        for number in self._numbers(f"{name} {moment}", undisturbed):
            found = world.run(name, kills=[(number, moment)])
            self._same(name, found, undisturbed, f"killed at the {moment} of call {number}")

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_killed_at_random(self, name: str, world: Runs) -> None:
        """Killed up to four times at random moments, the execution returns the same."""
        undisturbed = self._undisturbed(name, world)
        for seed in range(self.seeds):
            chance = random.Random(f"{name} {seed}")
            kills: list[tuple[int, Moment]] = [
                (chance.randint(1, len(undisturbed.calls)), "soon") for _ in range(4)
            ]
            found = world.run(name, kills=kills, seed=seed)
            self._same(name, found, undisturbed, f"killed at {kills}")

    def test_sync_flow(self, world: Runs) -> None:
        """Run in a sync flow, killed at the begin and end of each call."""
        self.need("sync")
        undisturbed = world.run("alone", blocking=True)
        assert undisturbed.ended == "completed", undisturbed.error
        assert "-" not in {step for _, _, step in undisturbed.calls}, undisturbed.calls
        for number in self._numbers("alone", undisturbed):
            for moment in ("begin", "end"):
                found = world.run("alone", kills=[(number, moment)], blocking=True)
                self._same("alone", found, undisturbed, f"killed at the {moment} of call {number}")

    def test_ids_name_no_function_of_the_harness(self, world: Runs) -> None:
        """Names of functions change with each release, and would strand running executions."""
        functions = {
            name for package in self.harness.packages for name in functions_of(package)
        } - self.harness.names
        left_out = {*self.harness.unsupported, *self.harness.refused}
        for name, conversation in CONVERSATIONS.items():
            if conversation.feature not in left_out:
                for id in self._undisturbed(name, world).ids:
                    parts = {part.rstrip("0123456789").rstrip("_") for part in id.split(".")}
                    assert not parts & functions, f"{id} contains {parts & functions}"

    def test_state_survives_or_is_refused(self, world: Runs) -> None:
        """What tools change in the state of a run is the same after a resume, or is refused."""
        if "state" in self.harness.refused:
            run = world.run("state")
            assert run.ended == "failed", run.result
            assert "collect" in run.error, run.error
            return
        run = self._undisturbed("state", world)
        assert run.result["state"] == {"items": ["first", "c1", "c2"]}

    def test_approved_tools_run_after_the_answer(self, world: Runs) -> None:
        """A tool does not run before its approval, and never if it is refused."""
        self.need("approval")
        run = world.run("approval", answers=False)
        assert run.ended == "waiting", run.error
        assert not {"tool publish e1", "tool destroy e2"} & set(run.labels), run.labels
        done = world.run("approval")
        assert done.ended == "completed", done.error
        assert "tool publish e1" in done.labels
        assert "tool destroy e2" not in done.labels

    @pytest.mark.parametrize("last", [PUBLISH.name, DESTROY.name])
    def test_approvals_of_one_turn_are_open_at_once(self, last: str, world: Runs) -> None:
        """They are answered in any order, each by another process."""
        self.need("approval")
        run = world.run("approval", last=last)
        assert run.ended == "completed", run.error
        assert len(run.asked[0]) == 2, run.asked
        assert run.result == self._undisturbed("approval", world).result

    def test_requests_are_retried_by_one_setting(self, world: Runs) -> None:
        """A failed request is made again up to the number of times that the user has set."""
        self.need("retries")
        run = self._undisturbed("retries", world)
        assert run.labels == [f"model {STUBBORN.name} 0"] * STUBBORN.requests
        assert world.run("down").labels.count(f"model {DOWN.name} 0") == 1

    def test_stream_is_replayed_without_the_model(self, world: Runs) -> None:
        """A replay delivers the same pieces to the flow, and emits no live events again."""
        self.need("stream")
        run = self._undisturbed("stream", world)
        assert "".join(run.result[0]).strip() == ALPHA.turns[-1].text
        # The process that continues after the wait replays the stream.
        assert run.live == 0

    def test_usage_is_recorded(self, world: Runs) -> None:
        """The tokens of the records are those that the harness counts."""
        self.need("usage")
        for name in ("alone", "nested"):
            if CONVERSATIONS[name].feature not in self.harness.unsupported:
                run = self._undisturbed(name, world)
                assert run.result["tokens"] == run.tokens != 0

    def test_messages_are_equal_after_a_record(self) -> None:
        """Messages of all types are read as they were, with the fields that were set."""
        self.need("messages")
        for name, message, read in self.harness().messages():
            assert type(read) is type(message), name
            assert read == message, name
            assert _set_fields(read) == _set_fields(message), name

    def test_records_of_other_versions(self) -> None:
        """A record that cannot be read is an error that names both versions.

        The adapter passes `version` and `read` to the steps of its models.
        """
        self.need("versions")
        assert "0.0.1" in error_about_version(self.harness(), "0.0.1")

    def test_records_of_earlier_versions_are_read(self, world: Runs) -> None:
        """Records that other versions wrote are read, or the error names the version."""
        if self.harness.records is None:
            pytest.skip("The harness has no kept records.")
        kept = sorted(self.harness.records.glob("*.json"))
        assert kept, f"{self.harness.records} contains no records"
        undisturbed = self._undisturbed(CONVERSATION, world)
        for path in kept:
            run = world.run(CONVERSATION, kept=path)
            if run.ended == "failed":
                assert read_kept(path)[0] in run.error, run.error
                continue
            self._same(CONVERSATION, run, undisturbed, path.name)
            assert len(run.calls) == 1, f"{path.name}: {run.calls} ran again"

    def test_history_has_each_item_once(self, world: Runs) -> None:
        """A conversation that is kept across runs has each message once."""
        self.need("session")
        history = self._undisturbed("session", world).result[-1]["history"]
        assert [text for text in history if text in ("first", "second")] == ["first", "second"]
        assert history.count(ALPHA.turns[-1].text) == 1

    def _undisturbed(self, name: str, world: Runs) -> Run:
        conversation = CONVERSATIONS[name]
        self.need(conversation.feature)
        if conversation.feature in self.harness.refused:
            pytest.skip(f"{name} is refused")
        run = world.undisturbed(name)
        assert run.ended == "completed", run.error
        assert run.problems == []
        return run

    def _numbers(self, seed: str, undisturbed: Run) -> list[int]:
        """Return the calls at which to kill an execution."""
        numbers = list(range(1, len(undisturbed.calls) + 1))
        if self.calls is None or self.calls >= len(numbers):
            return numbers
        return sorted(random.Random(seed).sample(numbers, self.calls))

    def _same(self, name: str, found: Run, undisturbed: Run, what: str) -> None:
        assert found.ended == "completed", f"{what}: {found.ended}: {found.error}"
        assert found.problems == [], what
        assert found.result == undisturbed.result, what
        if not CONVERSATIONS[name].races:
            assert found.ids == undisturbed.ids, what
            assert found.tokens == undisturbed.tokens, what


class Runs:
    """Runs conversations in new processes, and reads what they recorded."""

    def __init__(self, processes: Processes, folder: Path, harness: Harness) -> None:
        self._processes, self._folder, self._harness = processes, folder, harness
        self._number = 0
        self._undisturbed: dict[str, Run] = {}

    def undisturbed(self, name: str) -> Run:
        """Return an execution of a conversation that was not killed."""
        if name not in self._undisturbed:
            self._undisturbed[name] = self.run(name)
        return self._undisturbed[name]

    def run(
        self,
        name: str,
        *,
        kills: list[tuple[int, Moment]] | None = None,
        in_flow: bool = True,
        blocking: bool = False,
        answers: bool = True,
        last: str = "",
        seed: int = 0,
        kept: Path | None = None,
    ) -> Run:
        """Run an execution to its end.

        Args:
            kept: records that its first process finds.
            kills: for each of the first processes, the call at which it is killed.
            answers: whether to answer its waits.
            last: a part of the question that is answered last, after another process has run.
        """
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        store, run, left = f"sqlite:{folder}/k.db", Run(), list(kills or [])
        recorded = dict[str, str]()
        if kept is not None:
            restore(kept, store)
            recorded = {record.id: record.status for record in _records(store)}
        for attempt in range(_MOST_PROCESSES):
            written = self._processes.run(
                folder, conversation=name, store=store, exec_id=EXEC_ID, in_flow=in_flow,
                blocking=blocking, attempt=attempt, seed=f"{seed} {attempt}",
                kill=left.pop(0) if left else None,
            )  # fmt: skip
            run.calls = _calls(folder / "calls")
            run.ended, run.error = written["ended"], written.get("error", "")
            run.result, run.live = written.get("result"), written.get("live", 0)
            if not in_flow:
                return run
            run.problems += [
                f"{label} ran again in process {attempt}, but {step} was {recorded[step]}"
                for number, label, step in run.calls
                if number == attempt and step in recorded
            ]
            run.records = _records(store)
            recorded = {record.id: record.status for record in run.records}
            if run.ended == "killed":
                run.kills += 1
            elif run.ended == "waiting" and answers:
                run.asked.append(self._answer(store, CONVERSATIONS[name], last))
            else:
                break
        run.tokens = show(open_store(store), EXEC_ID).effort.tokens
        return run

    def _answer(self, store: str, conversation: Conversation, last: str) -> tuple[str, ...]:
        """Answer the open waits, but not the last one if there are others; return their names."""
        journal = Journal.open(open_store(store), EXEC_ID)
        requests = journal.pending_waits()
        for request in requests:
            if last and len(requests) > 1 and _is_about(request, last):
                continue
            for part, value in conversation.answers:
                if _is_about(request, part):
                    if isinstance(value, bool):
                        value = self._harness.answer(request, value)
                    waits.answer(journal, request, value)
        return tuple(request.name for request in requests)


def _is_about(request: WaitRequest, part: str) -> bool:
    return part in request.name or part in str(request.question)


def _calls(log: Path) -> list[tuple[int, str, str]]:
    if not log.is_file():
        return []
    lines = [line.split("\t") for line in log.read_text().split("\n") if line]
    return [(int(attempt), label, step) for attempt, label, step in lines]


def _records(store: str) -> list[InvocationRecord]:
    try:
        return Journal.open(open_store(store), EXEC_ID).invocations()
    except NotFound:
        # The process was killed before the execution began.
        return []


@cache
def functions_of(package: str) -> frozenset[str]:
    """Return the names of the functions that are defined in an installed package."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        return frozenset()
    names = set[str]()
    for folder in found.submodule_search_locations:
        for path in Path(folder).rglob("*.py"):
            names.update(_FUNCTION.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(names)


def _set_fields(value: Any) -> Any:
    """Return which fields of a model, and of the models in it, were set."""
    fields = getattr(value, "model_fields_set", None)
    if fields is not None:
        inner = {name: _set_fields(getattr(value, name, None)) for name in sorted(fields)}
        return (sorted(fields), inner)
    if isinstance(value, list | tuple):
        return [_set_fields(each) for each in value]
    if isinstance(value, dict):
        return {key: _set_fields(each) for key, each in value.items()}
    return None
