"""One run: a program, the processes that run it, and the invariants that always apply.

The invariants are those of `tests/faults.md`: I1 a record never changes, I2 its values exist, I3
what is returned is what is recorded, I4 no success is reported as failure and no failure as
success, I5 no reader sees partial objects, I6 user code never runs once its result is recorded.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

from kitaru import KitaruClient
from kitaru.errors import (
    AnswerInvalid,
    CheckpointFailed,
    CheckpointTimeout,
    Diverged,
    EnvironmentFailure,
    NotFound,
    StateError,
    UsageError,
    WaitConflict,
    WaitTimeout,
)
from kitaru.ops import replay as replay_use_case
from kitaru.ops import resume as resume_use_case
from kitaru.runtime.engine import attempts, outcomes
from kitaru.runtime.engine import execution as engine
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import object_store
from kitaru.wire import keys
from kitaru.wire.envelope import decode
from kitaru.wire.records import EndRecord, InvocationRecord
from tests.simulation import primitives
from tests.simulation.processes import Process, register
from tests.simulation.programs import COMPATIBLE, Program, load
from tests.simulation.scheduler import Killed, Scheduler
from tests.simulation.service import Bucket, Chaos, Service, opened

# How long a process may rely on its last read of an execution that it alone runs, in a bucket.
_FRESH_SECONDS = 1.0
_RETRIES = {"shaky": 2, "steady": 2}
_FIRST = "e1"
_LATE_STEPS = 40_000


class Violation(AssertionError):
    """An invariant is violated."""


@dataclass
class Scenario:
    """The parts of a run, drawn from its seed; each part can be removed."""

    seed: int
    remote: bool = False
    is_changed: bool = False
    undeclared: bool = False
    replays: int = 0
    cancels: bool = False
    collects: bool = False
    reads: bool = False
    starts_more: bool = False
    people: int = 1
    most_processes: int = 4
    fails: bool = True
    threads_fail: bool = False
    calm: bool = False

    @classmethod
    def drawn(cls, seed: int) -> Scenario:
        chance = random.Random(f"{seed} scenario")
        collects = chance.random() < 0.25
        return cls(
            seed,
            remote=chance.random() < 0.5,
            is_changed=chance.random() < 0.35,
            undeclared=chance.random() < 0.15,
            replays=chance.choice([1, 2] if collects else [0, 0, 1, 2]),
            cancels=chance.random() < 0.2,
            collects=collects,
            reads=chance.random() < 0.4,
            starts_more=chance.random() < 0.15,
            people=chance.choice([1, 1, 2]),
            most_processes=chance.choice([2, 4, 8]),
            fails=chance.random() < 0.5,
            threads_fail=chance.random() < 0.05,
            calm=chance.random() < 0.05,
        )


@dataclass
class Report:
    """The report of a run: its trace's digest, its number of steps, and its events."""

    seed: int
    fingerprint: str
    steps: int
    operations: int
    processes: int
    faults: Counter[str]
    executions: int
    ended: Counter[str]
    trace: list[str] | None
    failure: BaseException | None = None


@dataclass
class Kept:
    """Facts about the executions of a run, across all its processes."""

    began_with: dict[str, str] = field(default_factory=dict)
    codes: dict[str, set[str]] = field(default_factory=dict)
    answered: dict[tuple[str, str], Any] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    completed: dict[str, Any] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    replays: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    inputs: dict[str, tuple[str, int]] = field(default_factory=dict)
    fail_left: dict[tuple[str, str], int] = field(default_factory=dict)
    returned: dict[tuple[str, str], set[str]] = field(default_factory=dict)


class World:
    """The state of one run."""

    def __init__(self, scenario: Scenario, *, chaos: Chaos | None, keeps_trace: bool) -> None:
        seed = scenario.seed
        self.scenario = scenario
        self.program = Program.drawn(seed)
        self.chance = random.Random(f"{seed} world")
        self.run = Scheduler(seed, keeps_trace=keeps_trace)
        self.chaos = chaos or Chaos.drawn(seed)
        if scenario.calm:
            self.chaos.faults = self.chaos.kills = 0
        if scenario.collects:
            # Clocks determine what is old enough to be removed, and an hour is longer than any
            # pause of a process.
            self.run.hurry, self.run.by_priority = 0.0, False
        self.kept = Kept()
        self.harness = Process(self.run, 1, name="harness")
        self.service = Service(self.run, self.chaos, remote=scenario.remote)
        self.service.watch = self._created
        self.service.network = self.harness
        self.run.at_step = self._disturb
        self.codes: dict[str, tuple[ModuleType, dict[Any, None]]] = {}
        self.processes: list[Process] = []
        # By key: the number and the time of the creation, and what was created.
        self.commits: dict[str, tuple[int, float, bytes]] = {}
        self.count = 0
        # By process, execution and invocation: the number of commits when its record was read.
        self._looked: dict[tuple[int, str, str], tuple[int, float]] = {}
        self._tried: set[tuple[int, str, str]] = set()
        self._paused: dict[int, tuple[int, float]] = {}
        self._began_at: dict[int, int] = {}
        self._code_of: dict[int, str] = {}
        self._given: dict[str, dict[str, Any]] = {}
        self._actors = 0
        self.is_calm = False

    # What happens anywhere

    def fail(self, text: str) -> None:
        """End the run because an invariant is violated."""
        self.run.fail(Violation(text))
        raise Killed

    def _created(self, key: str, value: bytes) -> None:
        self.count += 1
        before = self.commits.get(key)
        if before is not None and before[2] != value and self._is_record(key):
            self.fail(f"I1: {key} was another record before")
        self.commits[key] = (self.count, self.run.now, value)

    def _is_record(self, key: str) -> bool:
        parts = key.split("/")
        if key.startswith("x/"):
            if keys.execution(parts[1]) not in self.commits:
                # A replay without its execution record does not exist.
                return False
            return parts[2] in ("execution", "state", "end", "inv", "attempt", "wait", "intent",
                                "code") and not self.was_collected(parts[1])  # fmt: skip
        return key.startswith("memory/") and "/version/" in key

    def was_collected(self, exec_id: str) -> bool:
        """Return whether the removal of an execution, or of its source, has started."""
        return keys.garbage(exec_id) in self.commits

    def _disturb(self, task: Any) -> None:
        if self.is_calm or primitives.current() is self.harness:
            return
        live = [one for one in self.processes if not one.is_dead]
        if live and self.chaos.kills_now(self.run):
            self.chance.choice(live).kill("at a switch point")
        elif live and self.chance.random() < 0.0005:
            most = 60.0 if self.scenario.collects else 1e6
            process = self.chance.choice(live)
            process.skew += self.chance.uniform(-most, most)
            self.run.note(f"clock of {process.name} jumps")

    # What user code does

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch which user code the engine calls inside the block, and with which values."""
        call_unchanged, attempt = attempts._call_unchanged, engine.Execution._attempt
        held, pause = engine.Execution._recorded_outcome, engine.Execution._pause

        def watched_call(call: Call) -> Any:
            scope = engine.current()
            assert scope is not None
            self._calls(scope.execution.journal.exec_id, call)
            return call_unchanged(call)

        def watched_attempt(execution: Any, call: Call, *rest: Any) -> Any:
            place = (primitives.current().pid, execution.journal.exec_id, call.id)
            if place in self._tried:
                self._looked[place] = self._paused[self._task()]
            self._tried.add(place)
            return attempt(execution, call, *rest)

        def watched_held(execution: Any, call: Call) -> Any:
            place = (primitives.current().pid, execution.journal.exec_id, call.id)
            self._looked[place] = (self.count, self.run.now)
            self._tried.discard(place)
            return held(execution, call)

        async def watched_pause(execution: Any, seconds: float, driver: Any) -> None:
            await pause(execution, seconds, driver)
            self._paused[self._task()] = (self.count, self.run.now)

        def watched_value(journal: Journal, outcome: Any, *, unpickle: bool) -> Any:
            if outcome.record.status == "completed" and outcome.record.value is not None:
                place = (journal.exec_id, outcome.record.id)
                self.kept.returned.setdefault(place, set()).add(outcome.record.value.digest)
            return outcomes.value_of(journal, outcome, unpickle=unpickle)

        with ExitStack() as stack:
            for place, name, watching in (
                (attempts, "_call_unchanged", watched_call),
                (engine.Execution, "_attempt", watched_attempt),
                (engine.Execution, "_recorded_outcome", watched_held),
                (engine.Execution, "_pause", watched_pause),
                (engine, "value_of", watched_value),
                # For the whole run: processes that open the store take turns.
                (object_store, "_obstore", lambda: Bucket(self.service)),
                (object_store, "_connect", lambda *args, **limits: None),
                (resume_use_case, "load_flow", self._imported),
                (replay_use_case, "load_flow", self._imported),
            ):
                stack.enter_context(patch.object(place, name, watching))
            yield

    def _task(self) -> int:
        assert self.run.current is not None
        return self.run.current.number

    def _imported(self, execution: Any) -> Any:
        return primitives.current().code.simulated  # type: ignore[union-attr]

    def _calls(self, exec_id: str, call: Call) -> None:
        """I6: compare the call of a function with the records at the time of the decision."""
        process = primitives.current()
        self.run.note(f"calls {exec_id} {call.id}")
        looked, at = self._looked[process.pid, exec_id, call.id]
        for key, what in (
            (keys.invocation(exec_id, call.id), "I6: it is recorded"),
            (keys.end(exec_id), "I4: the execution has ended"),
        ):
            number, moment, _ = self.commits.get(key, (looked + 1, at, b""))
            fresh = self.scenario.remote and at - moment <= _FRESH_SECONDS
            if key == keys.end(exec_id) and not self.is_consistent(exec_id):
                # Undeclared other code takes another path, and may not have reached this point.
                continue
            if number <= looked and not fresh and not self.was_collected(exec_id):
                self.fail(f"{what}: {process.name} calls {call.id} of {exec_id}")
        self._check_renamed(exec_id, call, process)
        self.run.switch()
        if call.spec.kind == "checkpoint":
            self._may_fail(exec_id, call)

    def _check_renamed(self, exec_id: str, call: Call, process: Process) -> None:
        for mine, other in (("shaky", "steady"), ("steady", "shaky")):
            if call.id.startswith(mine):
                alias = keys.invocation(exec_id, other + call.id.removeprefix(mine))
                began = self._began_at.get(process.pid, 0)
                if alias not in self.commits or self.commits[alias][0] > began:
                    continue
                # The code of a replay need not use the records that it reused.
                record = decode(alias, self.commits[alias][2])
                assert isinstance(record, InvocationRecord)
                if not (record.adopted_from or record.given):
                    self.fail(f"I6: {call.id} runs, and is recorded under its other name {other}")

    def _may_fail(self, exec_id: str, call: Call) -> None:
        place = (exec_id, call.id)
        if place not in self.kept.fail_left:
            drawn = random.Random(f"{self.scenario.seed} {exec_id} {call.id}")
            most = _RETRIES.get(call.spec.name, 1)
            count = drawn.randrange(most + 1) if self.scenario.fails else 0
            if self.scenario.fails and drawn.random() < 0.03:
                count += most + 1
            self.kept.fail_left[place] = count if call.spec.name != "breaks" else 0
        if self.kept.fail_left[place]:
            self.kept.fail_left[place] -= 1
            if call.spec.name == "slow" and self.chance.random() < 0.5:
                self.run.block(60.0)
            raise ConnectionError(f"{call.id} is not reachable")

    # Processes

    def start(self, name: str, drive: Callable[[Any], None], code: str = "") -> Process:
        """Start a process that opens the store, calls `drive`, and ends."""
        module, declarations = self.code(code or "first")
        calm = self.is_calm
        most = 50.0 if self.scenario.collects else 5000.0
        process = Process(
            self.run,
            100 + len(self.processes),
            name=f"{name}{len(self.processes)}",
            skew=self.chance.uniform(-most, most),
            code=module,
            declarations=declarations,
            thread_faults=0.02 if self.scenario.threads_fail and not calm else 0.0,
        )
        self._began_at[process.pid] = self.count
        self._code_of[process.pid] = code or "first"
        self.processes.append(process)
        register(process)

        def main() -> None:
            self.run.note(f"start {process.name} {code}")
            try:
                drive(opened(self.service))
            except EnvironmentFailure as error:
                if not process.met:
                    self.fail(f"I4: nothing failed, and {process.name} says: {error!r}")
            process.leave()

        process.start(main)
        return process

    def code(self, name: str) -> tuple[ModuleType, dict[Any, None]]:
        """Return the module of a version of the flow's code."""
        if name not in self.codes:
            self.codes[name] = load(self.program.sources[name])
        return self.codes[name]

    def wait_for(self, *processes: Process, seconds: float = 1e9) -> bool:
        """Wait until processes have ended; return False on timeout."""
        until = self.run.now + seconds
        while any(not one.is_dead for one in processes):
            if self.run.now >= until or (self._is_late() and not self.is_calm):
                return False
            self.run.block(self.chance.choice([0.01, 1.0, 30.0]))
        return True

    def _is_late(self) -> bool:
        """Return whether the run has used its share of steps: processes that poll use many."""
        return self.run.steps > _LATE_STEPS

    def _rest(self, seconds: float) -> None:
        until = self.run.now + seconds
        while self.run.now < until and not self._is_late():
            self.run.block(min(20.0, until - self.run.now))

    # The script of a run

    def play(self) -> None:
        """Play the whole run, in its first thread."""
        chance, scenario = self.chance, self.scenario
        self.kept.inputs[_FIRST] = (_FIRST, chance.randrange(20))
        self._act(lambda: self.operate(_FIRST, scenario.most_processes))
        for _ in range(scenario.people):
            self._act(self._answer_everything)
        if scenario.reads:
            self._act(self._read_now_and_then)
        if scenario.cancels:
            self._act(lambda: self._cancel(_FIRST))
        if scenario.starts_more and not self.program.loads:
            self._act(self._start_more)
        if scenario.collects:
            self._act(self._collect_now_and_then)
        for _ in range(scenario.replays):
            self._act(self._replay)
        while self._actors:
            self.run.block(5.0)
        self.is_calm = True
        self.chaos.faults = self.chaos.kills = 0
        self.run.note("calm")
        self.run.hurry, self.run.by_priority = 0.0, False
        for process in self.processes:
            if not process.is_dead and (self._is_late() or self.chance.random() < 0.5):
                process.kill("before the calm")
        for exec_id in self.executions():
            self.settle(exec_id)

    def _act(self, work: Callable[[], None]) -> None:
        self._actors += 1

        def act() -> None:
            work()
            self._actors -= 1

        self.run.spawn(self.harness, "actor", act)

    def executions(self) -> list[str]:
        """Return the existing executions."""
        listed = self.service.objects.list("x/")
        found = sorted({key.split("/")[1] for key in listed if key.endswith("/execution")})
        for exec_id in found:
            self._learn(exec_id)
        return found

    def journal(self, exec_id: str) -> Journal:
        """Return an execution's journal without faults."""
        return Journal.open(self.service.objects, exec_id)

    def end(self, exec_id: str) -> EndRecord | None:
        """Return the end record of an execution."""
        record_store = RecordStore(self.service.objects)
        return record_store.read(EndRecord, keys.end(exec_id))

    def operate(self, exec_id: str, most: int) -> None:
        """Run an execution in several processes, sequentially or concurrently, until it ends."""
        for _ in range(most):
            if self.end(exec_id) is not None or self._is_late():
                return
            some = [self._runner(exec_id) for _ in range(self.chance.choice([1, 1, 2, 3]))]
            if not self.wait_for(*some, seconds=self.chance.choice([1.0, 60.0, 2000.0])):
                for process in some:
                    if self.chance.random() < 0.6:
                        process.kill("by its operator")
            self.check_status(exec_id)
            self._rest(self.chance.choice([0.1, 10.0, 500.0]))

    def settle(self, exec_id: str) -> None:
        """Let an execution end without any fault; fail if it does not."""
        for _ in range(12):
            if self.end(exec_id) is not None or self.was_collected(exec_id):
                return
            if not self.is_consistent(exec_id):
                # The code of its processes differs without a declaration.
                return
            if self._is_replay_of_another_way(exec_id):
                return
            process = self._runner(exec_id)
            for _ in range(40):
                if self.wait_for(process, seconds=300.0):
                    break
                self._answer_one(exec_id)
            else:
                self.fail(f"stuck: {exec_id} does not end, and nothing fails")
            self._answer_one(exec_id)
            self.check_status(exec_id)
        self.fail(f"stuck: {exec_id} does not end in 12 processes without a fault")

    def _is_replay_of_another_way(self, exec_id: str) -> bool:
        """Return whether a replay stopped because an override took another path than its source."""
        if not self.kept.replays.get(exec_id, ("", {}))[1]:
            return False
        error = self.journal(exec_id).state().error
        return error is not None and "Diverged" in error.type

    def is_consistent(self, exec_id: str) -> bool:
        """Return whether all code of an execution uses the same names of calls."""
        used = self.kept.codes.get(exec_id, set())
        began = self.kept.began_with.get(exec_id)
        source = self.kept.replays.get(exec_id, ("", {}))[0]
        same = began is None or used <= set(COMPATIBLE[began])
        return same and (not source or self.is_consistent(source))

    def _learn(self, exec_id: str) -> None:
        """Record the facts of an execution whose process died before it reported them."""
        if exec_id in self.kept.inputs:
            return
        self.kept.inputs[exec_id] = ("more", 1)
        self.kept.began_with.setdefault(exec_id, "first")
        replay = self.journal(exec_id).execution.replay
        if replay is not None:
            results = self._given.get(replay.source, {})
            self._note_replay(exec_id, replay.source, results if replay.results else {})

    def _note_replay(self, exec_id: str, source: str, results: dict[str, Any]) -> None:
        self.kept.replays[exec_id] = (source, results)
        self.kept.began_with[exec_id] = self.kept.began_with[source]
        self.kept.inputs[exec_id] = self.kept.inputs[source]

    def _is_renamed(self, exec_id: str) -> bool:
        """Return whether code that declares a rename resumed an execution of earlier code."""
        used = self.kept.codes.get(exec_id, set())
        source = self.kept.replays.get(exec_id, ("", {}))[0]
        return used >= {"renamed"} or bool(source and self._is_renamed(source))

    def _code(self, exec_id: str) -> str:
        began = self.kept.began_with.get(exec_id)
        if self.is_calm and self._is_renamed(exec_id):
            return "renamed"
        if self.scenario.undeclared and not self.is_calm and self.chance.random() < 0.3:
            return "undeclared"
        if began is None:
            return self.chance.choice(["first", "renamed"]) if self.scenario.is_changed else "first"
        if self.scenario.is_changed:
            return self.chance.choice(COMPATIBLE[began])
        return began

    def _runner(self, exec_id: str) -> Process:
        code = self._code(exec_id)
        if exec_id not in self.executions():
            # Several processes may start it at once. The names in its record show which one did.
            code = self.kept.began_with.get(exec_id, code)
        action = self.chance.choice(["run", "run", "resume", "retry"])
        after = self.chance.choice(["wait", "settle", "look", "nothing"])
        self.kept.began_with.setdefault(exec_id, code)
        self.kept.codes.setdefault(exec_id, set()).add(code)
        return self.start("run", lambda store: self._drive(store, exec_id, action, after), code)

    def _drive(self, store: Any, exec_id: str, action: str, after: str) -> None:
        process = primitives.current()
        executions = KitaruClient(store).executions
        try:
            if action == "run" and exec_id not in self.kept.replays:
                flow = process.code.simulated  # type: ignore[union-attr]
                handle = flow.options(store=store, exec_id=exec_id).run(*self.kept.inputs[exec_id])
            elif action == "retry":
                handle = executions.retry(exec_id)
            else:
                handle = executions.resume(exec_id)
            self.kept.started.append(exec_id)
            self._follow(handle, exec_id, after)
        except Exception as error:
            self._explain(error, exec_id, action)

    def _follow(self, handle: Any, exec_id: str, after: str) -> None:
        if after == "nothing":
            return
        if after == "look":
            self.run.note(f"status {exec_id} {handle.status}")
            return
        if after == "settle":
            status = handle.settle()
            if status != "completed":
                return
            result = handle.get()
        else:
            result = handle.wait(self.chance.choice([None, 5.0, 5000.0]))
        self.run.note(f"result {exec_id} {result}")
        if self.kept.completed.setdefault(exec_id, result) != result:
            self.fail(f"I3: {exec_id} returned {self.kept.completed[exec_id]}, and now {result}")
        if self.end(exec_id) is None and not self.was_collected(exec_id):
            self.fail(f"I4: {exec_id} returned a result, and no end is recorded")

    def _explain(self, error: Exception, exec_id: str, action: str) -> None:
        """I4: fail unless an error in a process has a known reason."""
        process = primitives.current()
        self.run.note(f"error {exec_id} {type(error).__name__}")
        reasons: list[bool] = [self.was_collected(exec_id)]
        end = self.end(exec_id)
        match error:
            case EnvironmentFailure():
                raise error
            case WaitTimeout():
                return
            case Diverged():
                reasons.append(not self.is_consistent(exec_id))
                # Code from before a rename stops at a record of the renamed code.
                reasons.append(
                    self._is_renamed(exec_id) and self._code_of[process.pid] != "renamed"
                )
                # After an override, a reused call may be made with other arguments.
                reasons.append(bool(self.kept.replays.get(exec_id, ("", {}))[1]))
            case CheckpointFailed():
                cause = error.__cause__
                reasons.append(isinstance(cause, ConnectionError | CheckpointTimeout | type(None)))
                reasons.append(self._gave_up(exec_id))
                reasons = [reasons[0] or (reasons[1] and reasons[2])]
            case NotFound():
                created = self.commits.get(keys.execution(exec_id), (self.count + 1,))[0]
                reasons.append(action != "run" and created > self._began_at[process.pid])
            case StateError():
                reasons.append(action == "retry")
                reasons.append(end is not None and end.status == "cancelled")
                reasons.append("is running in this process" in str(error))
        if not any(reasons):
            import traceback

            text = "".join(traceback.format_exception(error))
            self.fail(f"I4: {process.name} got {type(error).__name__} for no reason: {text}")

    def _gave_up(self, exec_id: str) -> bool:
        """Return whether all attempts of a checkpoint failed."""
        failed = Counter(
            key.split("/")[3] for key in self.commits if key.startswith(keys.all_attempts(exec_id))
        )
        return any(
            count > _RETRIES.get(id.rpartition("_")[0] if id[-1].isdigit() else id, 1)
            for id, count in failed.items()
        )

    # Others

    def _answer_everything(self) -> None:
        for _ in range(self.chance.randrange(3, 12)):
            if self._is_late():
                return
            self._rest(self.chance.choice([1.0, 30.0, 400.0]))
            for exec_id in self.executions():
                self._answer_one(exec_id)

    def _answer_one(self, exec_id: str) -> None:
        if self.was_collected(exec_id) or exec_id not in self.executions():
            return
        pending = self.journal(exec_id).pending_waits()
        if not pending or self.end(exec_id) is not None:
            return
        name = self.chance.choice(pending).name
        wrong = self.chance.random() < 0.1 and not self.is_calm
        value: Any = "none" if wrong else self.chance.randrange(10)
        after = self.chance.choice(["wait", "settle", "nothing"])
        code = self._code(exec_id)
        self.kept.codes.setdefault(exec_id, set()).add(code)
        self.wait_for(
            self.start("person", lambda s: self._answer(s, exec_id, name, value, after), code),
            seconds=5.0,
        )

    def _answer(self, store: Any, exec_id: str, name: str, value: Any, after: str) -> None:
        try:
            handle = KitaruClient(store).executions.input(exec_id, value, name)
            self.run.note(f"answered {exec_id} {name} {value}")
            if self.kept.answered.setdefault((exec_id, name), value) != value:
                self.fail(f"I4: {name} of {exec_id} was answered twice, with different values")
            self._follow(handle, exec_id, after)
        except AnswerInvalid:
            if value != "none":
                raise
        except WaitConflict:
            return
        except Exception as error:
            self._explain(error, exec_id, "answer")

    def _cancel(self, exec_id: str) -> None:
        self._rest(self.chance.choice([0.5, 10.0, 300.0]))

        def cancel(store: Any) -> None:
            try:
                KitaruClient(store).executions.cancel(exec_id)
                self.kept.cancelled.add(exec_id)
            except (NotFound, StateError) as error:
                self.run.note(f"not cancelled: {type(error).__name__}")

        self.wait_for(self.start("cancel", cancel), seconds=100.0)

    def _read_now_and_then(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            if self._is_late():
                return
            self._rest(self.chance.choice([0.3, 20.0, 500.0]))
            self.wait_for(self.start("reader", self._read), seconds=1000.0)

    def _read(self, store: Any) -> None:
        client = KitaruClient(store)
        # In a bucket, the first state and its entry in the index are two requests.
        indexed = {key.split("/")[2] for key in self.commits if key.startswith("index/")}
        known = [one for one in self.kept.started if one in indexed]
        listed = {one["exec_id"] for one in client.executions.list(limit=1000)}
        for exec_id in known:
            if exec_id not in listed and not self.was_collected(exec_id):
                self.fail(f"I5: {exec_id} was started, and is not listed")
        for exec_id in sorted(listed):
            try:
                view = client.executions.get(exec_id)
                ended_before = view.status in ("completed", "cancelled")
                told = view.to_dict()
                client.executions.lineage(exec_id)
                list(client.executions.logs(exec_id))
            except (NotFound, EnvironmentFailure):
                if primitives.current().met or self.was_collected(exec_id):
                    continue
                raise
            if ended_before and self.end(exec_id) is None and not self.was_collected(exec_id):
                self.fail(f"I4: {exec_id} is shown as {view.status}: {told}")

    def _collect_now_and_then(self) -> None:
        for _ in range(self.chance.randrange(1, 4)):
            if self._is_late():
                return
            self._rest(self.chance.choice([5.0, 300.0, 5000.0]))
            age = timedelta(seconds=self.chance.choice([200, 2000]))
            self.wait_for(self.start("gc", partial(self._collect, age=age)), seconds=2000.0)

    def _collect(self, store: Any, age: timedelta) -> None:
        for removed in KitaruClient(store).executions.collect(age):
            self.run.note(f"collected {removed.exec_id}")

    def _start_more(self) -> None:
        ids: list[str] = []

        def begin(store: Any) -> None:
            flow = primitives.current().code.simulated  # type: ignore[union-attr]
            handle = flow.options(store=store).run("more", 1)
            if handle.exec_id in ids:
                self.fail(f"ids: {handle.exec_id} was handed out twice")
            ids.append(handle.exec_id)

        some = [self.start("more", begin) for _ in range(3)]
        for process in some:
            process.skew = 0.0
        self.wait_for(*some, seconds=3000.0)

    def _replay(self) -> None:
        self._rest(self.chance.choice([20.0, 600.0, 3000.0]))
        exec_id = self.chance.choice(self.executions() or [_FIRST])
        began = self.kept.began_with.get(exec_id)
        if began is None or not self.is_consistent(exec_id) or exec_id not in self.kept.inputs:
            return
        if self.program.loads and not self._is_loadable(exec_id):
            return
        calls = [
            call
            for call in self.service.objects.list(keys.invocations(exec_id))
            if not call.rpartition("/")[2].startswith(("log", "memory"))
        ]
        ids = [call.rpartition("/")[2] for call in calls]
        start = self.chance.choice(["", *ids])
        results = {}
        numbers = [id for id in ids if id.startswith(("add", "shaky", "steady", "slow", "ask"))]
        if numbers and not self.program.loads and self.chance.random() < 0.5:
            results = {self.chance.choice(numbers): self.chance.randrange(50)}
        drive = lambda store: self._begin_replay(store, exec_id, start, results)  # noqa: E731
        process = self.start("replay", drive, began)
        self.wait_for(process, seconds=3000.0)
        for found in self.executions():
            if self.kept.replays.get(found, ("",))[0] == exec_id:
                self.operate(found, 3)

    def _is_loadable(self, exec_id: str) -> bool:
        """Return whether a replay loads only artifacts that its source has."""
        end = self.end(exec_id)
        is_free = self.program.waits or "namespace:" in self.program.sources["first"]
        return end is not None and end.status == "completed" and not is_free

    def _begin_replay(self, store: Any, exec_id: str, start: str, results: dict[str, Any]) -> None:
        self._given[exec_id] = results
        of = exec_id
        try:
            handle = KitaruClient(store).executions.replay(exec_id, start=start, results=results)
            of = handle.exec_id
            self._note_replay(of, exec_id, results)
            self.run.note(f"replays {exec_id} as {of}")
            self._follow(handle, of, self.chance.choice(["wait", "settle", "nothing"]))
        except (UsageError, AnswerInvalid) as error:
            self.run.note(f"no replay: {type(error).__name__}")
        except Exception as error:
            self._explain(error, of, "replay")

    # What people see

    def check_status(self, exec_id: str) -> None:
        """I4: compare the displayed status with the known facts when no process is alive."""
        if self.service.remote or any(not one.is_dead for one in self.processes):
            return
        if exec_id not in self.executions() or self.was_collected(exec_id):
            return
        view = KitaruClient(self.service.objects).executions.get(exec_id)
        if view.status == "running":
            self.fail(f"I4: {exec_id} is shown as running, and no process is alive")
        if view.status == "waiting" and not view.waits and self.end(exec_id) is None:
            # Answered but not resumed yet: there is no error and no pending wait.
            self.run.note(f"{exec_id} is answered")
