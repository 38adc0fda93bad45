"""Virtual time for the dispatcher: the product's protocol, kills, faults, and services that lie.

Steps, people and dispatchers are simulated processes (`tests.simulation`) that call the product's
own functions. Any of them may be killed at each switch point. Operations of the store fail, arrive
late, or take effect although they failed; lists are old. The orchestrator accepts runs and reports
an error, accepts them minutes later, or never starts them.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import kitaru_targets.deploy
from kitaru_targets.base import Submitted

from kitaru.errors import EnvironmentFailure, KitaruError, WaitConflict
from kitaru.ops import advance, dispatch
from kitaru.ops import submit as submissions
from kitaru.ops.notify import Notice
from kitaru.runtime.journal import children, launches, places, rounds
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.steps import step as steps
from kitaru.stores import object_store
from kitaru.wire import ids, keys
from kitaru.wire.envelope import decode
from kitaru.wire.flow_limits import ExecutionLimits
from kitaru.wire.records import (
    ChildRecord,
    EndRecord,
    ExecutionRecord,
    InvocationRecord,
    LaunchRecord,
    StoredValue,
    WaitAnswer,
    WaitRequest,
)
from kitaru.wire.times import later, now, seconds_until
from tests.simulation import primitives, service
from tests.simulation.processes import Process, register, simulated
from tests.simulation.scheduler import Scheduler
from tests.simulation.service import FAULTS, Bucket, Chaos, Service, opened

TARGET = "kubeflow"
KINDS = ("name", "nothing", "stays open", "wakes")
# A question, one that expires, and a sleep.
WAITS = ("question", "deadline", "timer")
EXPIRED = -1
# Seconds of virtual time.
_LONGEST_START = 20.0
_LATEST = 120.0
_END = 40_000.0


class Violation(AssertionError):
    """An invariant is violated."""


@dataclass
class Run:
    """A run of the orchestrator. `round` is None for the document of a version."""

    id: str
    exec_id: str
    round: int | None
    status: str = "pending"
    tries: int = 0


@dataclass
class Report:
    """The report of a seed."""

    seed: int
    kind: str
    executions: int
    runs: int
    superseded: int
    twice: int
    kills: int
    faults: int
    operations: int
    steps: int
    failure: BaseException | None = None
    trace: list[str] | None = None


class Orchestrator:
    """Starts runs, as one of four kinds of services does.

    `name`: a second run of a name is the first run. `nothing`: each submission is a run.
    `stays open`: there is one run for each execution, which is notified to continue.
    `wakes`: such a run continues by itself, too, when its deadline has passed on the clock of the
    service.
    """

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.runs: dict[str, Run] = {}
        self._named: dict[str, Run] = {}
        self._numbers = count(1)

    def submit(self, name: str, exec_id: str, round: int | None) -> Submitted:
        """Accept a run or fail; what was accepted is not always confirmed."""
        world, chance = self.world, self.world.chance
        world.run.switch()
        fate = 0.0 if world.is_calm else chance.random()
        if fate < 0.7:
            world.run.block(chance.uniform(0.01, 5.0))
            run = self._accept(name, exec_id, round)
            world.run.switch()
            return Submitted(run.id, "")
        if fate < 0.8:
            self._accept(name, exec_id, round)
        elif fate < 0.9:
            seconds = chance.uniform(1.0, _LATEST)
            world.later(seconds, lambda: self._accept(name, exec_id, round))
        world.run.block(5.0)
        raise EnvironmentFailure("the service did not answer in time")

    def notify(
        self, journal: Journal, wait: str, value: Any, *, is_expired: bool = False
    ) -> Notice | None:
        """Let the run of an execution continue, if runs stay open."""
        del value
        if self.kind not in ("stays open", "wakes"):
            return None
        run = self.runs[journal.execution.run]
        fate = 0.0 if self.world.is_calm else self.world.chance.random()
        self.world.run.switch()
        sleeps = self.world.kinds.get((journal.exec_id, wait)) == "timer"
        is_busy = run.status in ("pending", "running") or (sleeps and run.status == "succeeded")
        if self.kind == "wakes" and is_expired and is_busy:
            return Notice("the service", "busy")
        if run.status in ("pending", "running"):
            raise EnvironmentFailure("the run has not reached the wait yet")
        if fate < 0.8:
            run.status, run.tries = "pending", 0
            self._start_later(run)
        if fate < 0.7:
            return Notice("the service", "told")
        raise EnvironmentFailure("the service did not answer in time")

    def sleep(self, run: Run, until: str) -> None:
        """Let a run that has parked continue when a deadline has passed."""
        if self.kind == "wakes" and until:
            seconds = max(1.0, seconds_until(until)) + self.world.chance.uniform(0.5, 20.0)
            self.world.later(seconds, lambda: self._wake(run))

    def _wake(self, run: Run) -> None:
        if run.status == "succeeded":
            run.status, run.tries = "pending", 0
            self._start(run)

    def has_ended(self, target: str, run: str) -> bool:
        """Return whether a run has ended, as the service reports."""
        del target
        self.world.run.switch()
        return run not in self.runs or self.runs[run].status in ("failed", "succeeded")

    def _accept(self, name: str, exec_id: str, round: int | None) -> Run:
        if self.kind != "nothing" and name in self._named:
            return self._named[name]
        run = Run(f"{name}#{next(self._numbers)}", exec_id, round)
        self._named.setdefault(name, run)
        self.runs[run.id] = run
        self._start_later(run)
        return run

    def _start_later(self, run: Run) -> None:
        self.world.later(self.world.chance.uniform(1.0, _LONGEST_START), lambda: self._start(run))

    def _start(self, run: Run) -> None:
        if run.status in ("failed", "succeeded"):
            return
        if not run.tries and not self.world.is_calm and self.world.chance.random() < 0.03:
            run.status = "failed"
            return
        run.status, run.tries = "running", run.tries + 1
        process = self.world.process(lambda: self._work(run))
        self.world.run.note(f"{process.name} runs {run.id}")
        self.world.at_death(process, lambda: self._died(run, process))

    def _work(self, run: Run) -> None:
        try:
            self.world.step(run)
            run.status = "succeeded"
        except KitaruError:
            self._again(run)

    def _died(self, run: Run, process: Process) -> None:
        if run.status == "running" and process.was_killed:
            self._again(run)

    def _again(self, run: Run) -> None:
        """Start a failed run once more, as a retry of its container."""
        run.status = "pending" if run.tries < 2 else "failed"
        if run.status == "pending":
            self._start_later(run)


class World:
    """The state of one seed."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        self.chance = random.Random(f"{seed} dispatch")
        self.run = Scheduler(seed, most_steps=2_000_000, keeps_trace=keeps_trace)
        self.end = _END
        self.run.most_seconds = 2 * _END
        # Processes poll, and a starved one would use up all steps of the run.
        self.run.by_priority, self.run.hurry = False, 0.0
        self.chaos = self._chaos(seed)
        self.harness = Process(self.run, 1, name="harness")
        self.service = Service(self.run, self.chaos, remote=self.chance.random() < 0.5)
        self.service.network = self.harness
        self.run.at_step = self._disturb
        self.orchestrator = Orchestrator(self, self.chance.choice(KINDS))
        self.waits = {
            f"e{number}": self.chance.randrange(1, 4)
            for number in range(self.chance.randrange(2, 5))
        }
        # The children of some executions by the call that starts each; who is cancelled meanwhile.
        self.children = {
            exec_id: {
                call: ids.child_execution_id(exec_id, call)
                for call in ("c0", "c1")[: self.chance.choice([0, 1, 2])]
            }
            for exec_id in self.waits
        }
        self.cancelled = {
            one for one, own in self.children.items() if own and self.chance.random() < 0.3
        }
        # Nobody answers the children of a cancelled one: only a cancellation ends them.
        self.waits.update(
            (child, 1 if one in self.cancelled else self.chance.randrange(2))
            for one, own in self.children.items()
            for child in own.values()
        )
        self.unanswered = {child for one in self.cancelled for child in self.children[one].values()}
        self.kinds = {
            (exec_id, f"w{wait}"): self.chance.choice(WAITS)
            for exec_id, number in self.waits.items()
            for wait in range(number)
        }
        self.processes: list[Process] = []
        self.kills = self.superseded = 0
        # The runs that ran code of a round, and the answers that were acknowledged.
        self.ran: dict[tuple[str, int], set[str]] = {}
        self.acknowledged: dict[tuple[str, str], Any] = {}
        self._deaths: list[tuple[Process, Callable[[], None]]] = []
        self._pids = count(2)

    def _chaos(self, seed: int) -> Chaos:
        return Chaos(
            random.Random(f"{seed} chaos"),
            fault_rate=self.chance.choice([0.0, 0.01, 0.04]),
            kill_rate=self.chance.choice([0.001, 0.004]),
            faults=400,
            kills=60,
            kinds=frozenset(kind for kinds in FAULTS.values() for kind in kinds) - {"denied"},
            until_step=20_000,
            longest_seconds=40.0,
        )

    @property
    def is_calm(self) -> bool:
        """Whether nothing is disturbed any more."""
        return self.run.steps > self.chaos.until_step

    # Processes

    def process(self, work: Callable[[], object]) -> Process:
        """Start a process that may be killed anywhere."""
        process = Process(self.run, next(self._pids), skew=self.chance.uniform(-180, 180))
        register(process)
        self.processes.append(process)

        def main() -> None:
            work()
            process.has_left = True
            self.processes.remove(process)

        process.start(main)
        return process

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        """Do something after a time, outside of all processes."""

        def wait() -> None:
            self.run.block(seconds)
            what()

        self.run.spawn(self.harness, "later", wait)

    def at_death(self, process: Process, what: Callable[[], None]) -> None:
        """Do something soon after a process was killed."""
        self._deaths.append((process, what))

    def forever(self, work: Callable[[], object]) -> None:
        """Run a program, again and again, also after it was killed."""

        def again() -> None:
            self.at_death(self.process(work), again)

        again()

    def _disturb(self, task: Any) -> None:
        if primitives.current() is self.harness:
            return
        live = [one for one in self.processes if not one.is_dead]
        if live and self.chaos.kills_now(self.run):
            self.chance.choice(live).kill("at a switch point")

    def _bury(self) -> None:
        """Tell those who watch for the death of processes."""
        for process, what in list(self._deaths):
            if process.is_dead or process.has_left:
                self._deaths.remove((process, what))
                if process in self.processes:
                    self.processes.remove(process)
                self.kills += process.was_killed
                if not process.has_left:
                    self.later(self.chance.uniform(0.5, 20.0), what)

    def inputs(self, exec_id: str) -> dict[str, Any]:
        """Return the inputs of an execution."""
        del exec_id
        return {}

    def limits(self, inputs: Mapping[str, Any]) -> ExecutionLimits | None:
        """Return the limits of an execution with these inputs."""
        del inputs
        return None

    # What the processes do

    def invoke(self, exec_id: str) -> None:
        """Start an execution, as `kitaru invoke --id` does."""
        store = opened(self.service)
        self._until(lambda: self._invoked(store, exec_id))

    def _invoked(self, store: Any, exec_id: str) -> bool:
        launches.record_launch(store, exec_id, self._launch(exec_id))
        advance.move(store, exec_id)
        return True

    def _launch(self, exec_id: str) -> LaunchRecord:
        return LaunchRecord("flow", self.inputs(exec_id), 1)

    def answer(self, exec_id: str, wait: str, value: Any) -> None:
        """Answer a wait when it is asked, sometimes before, as `kitaru executions input` does."""
        store = opened(self.service)
        early = self.chance.random() < 0.2
        place = keys.execution(exec_id) if early else keys.wait_request(exec_id, wait)
        self._until(lambda: store.get(place) is not None)
        self._until(lambda: self._answered(store, exec_id, wait, value))

    def _answered(self, store: Any, exec_id: str, wait: str, value: Any) -> bool:
        journal = Journal.open(store, exec_id)
        try:
            journal.answer(WaitAnswer(wait, "value", value, now()))
        except WaitConflict:
            # It has expired.
            return True
        self.acknowledged[exec_id, wait] = value
        if self.chance.random() < 0.5:
            advance.move(store, exec_id)
        return True

    def cancel(self, exec_id: str) -> None:
        """Cancel an execution at some moment, as `kitaru executions cancel` does."""
        store = opened(self.service)
        self.run.block(self.chance.uniform(1.0, 300.0))
        self._until(lambda: self._cancelled(store, exec_id))

    def _cancelled(self, store: Any, exec_id: str) -> bool:
        Journal.open(store, exec_id).finish(EndRecord("cancelled", None, now(), by="somebody"))
        advance.move(store, exec_id)
        return True

    def _until(self, is_done: Callable[[], bool]) -> None:
        while True:
            try:
                if is_done():
                    return
            except KitaruError:
                pass
            self.run.block(self.chance.uniform(1.0, 30.0))

    def dispatch(self) -> None:
        """Run a dispatcher."""
        found = dispatch.Dispatcher(opened(self.service))
        while True:
            with suppress(KitaruError):
                found.look()
            self.run.block(self.chance.uniform(2.0, 20.0))

    def step(self, run: Run) -> None:
        """Run the steps of a flow that asks some questions, as `kitaru.runtime.steps` does."""
        store, exec_id = opened(self.service), run.exec_id
        records, limits = RecordStore(store), self.limits(self.inputs(exec_id))

        def admits(number: int) -> bool:
            assert limits is not None
            wanted = places.Wanted(exec_id, number, limits, number == 1)
            return places.ask(records, limits.flow, [wanted])[wanted.id] is None

        asks = None if limits is None else admits
        while True:
            place = rounds.enter(
                records, exec_id, run.id, target=TARGET, number=run.round, admits=asks
            )
            if place.status == "full":
                raise EnvironmentFailure("there is no place")
            if place.status == "superseded":
                self.superseded += 1
                return
            launch = launches.recall(store, exec_id)
            parent = launch.parent if launch is not None else ""
            journal = Journal.create(store, execution(exec_id, run.id, parent, limits))
            if journal.end() is not None:
                return
            if place.status == "parked":
                if steps._expire(journal, place.waits):
                    continue
                self._sleep(journal, run, place)
                return
            journal.set_state("running")
            parked = self._body(journal, run, place.round)
            if journal.end() is not None:
                store.delete(keys.open_round(exec_id, place.round))
                return
            if parked is None:
                self._run_code(exec_id, place.round, run)
                if journal.finish(EndRecord("completed", None, now())):
                    store.delete(keys.open_round(exec_id, place.round))
                return
            left = rounds.park(
                records, exec_id, place.round, run.id, [parked], target=TARGET, admits=asks
            )
            if left.status == "superseded":
                self.superseded += 1
                return
            if left.status == "parked":
                journal.set_state(journal.paused([parked]))
                self._sleep(journal, run, left)
                return

    def _sleep(self, journal: Journal, run: Run, place: rounds.Entered) -> None:
        pause = steps._pause(journal, place)
        self.orchestrator.sleep(run, pause.until if pause else "")

    def _body(self, journal: Journal, run: Run, round: int) -> str | None:
        """Run the body up to a wait without an answer; return the wait, None at the end."""
        for call, child in self.children.get(journal.exec_id, {}).items():
            wait = children.wait_of(call)
            if journal.invocation(wait) is None:
                self._run_code(journal.exec_id, round, run)
                self._start_child(journal, call, child)
                if journal.end() is not None:
                    return None
                request = WaitRequest(wait, "?", {}, asked_at=now(), kind="child", child=child)
                journal.request_wait(request)
                children.look(journal.store, journal.exec_id, wait, child)
                answer = journal.wait_answer(wait)
                if answer is None:
                    return wait
                journal.record(_outcome(wait, answer.value["status"]))
        for number in range(self.waits.get(journal.exec_id, 0)):
            wait = f"w{number}"
            if journal.invocation(wait) is not None:
                continue
            self._run_code(journal.exec_id, round, run)
            journal.request_wait(self._request(journal.exec_id, wait))
            answer = journal.wait_answer(wait)
            if answer is None:
                return wait
            journal.record(_outcome(wait, answer.value))
        return None

    def _request(self, exec_id: str, wait: str) -> WaitRequest:
        kind = self.kinds[exec_id, wait]
        seconds = self.chance.choice([1.0, 30.0, 300.0, 3000.0])
        return WaitRequest(
            wait,
            "?",
            {"type": "integer"},
            asked_at=now(),
            kind="timer" if kind == "timer" else "question",
            deadline="" if kind == "question" else later(now(), seconds),
            default=(EXPIRED,),
        )

    def _start_child(self, journal: Journal, call: str, child: str) -> None:
        """Start a child, as `kitaru.invoke` does."""
        noted = ChildRecord(child, "flow", call, "cancel", now())
        children.note(journal.store, journal.exec_id, noted)
        if journal.end() is None:
            launch = LaunchRecord("flow", self.inputs(child), 1, parent=f"{journal.exec_id}/{call}")
            launches.record_launch(journal.store, child, launch)

    def _run_code(self, exec_id: str, round: int, run: Run) -> None:
        self.ran.setdefault((exec_id, round), set()).add(run.id)
        self.run.switch()

    # The whole

    def play(self) -> None:
        """Start everything, and return when every execution has ended and nothing is left."""
        stored = self.service.objects
        for _ in range(2):
            self.forever(self.dispatch)
        for exec_id in self.cancelled:
            self._persist(lambda exec_id=exec_id: self.cancel(exec_id))
        for exec_id, number in self.waits.items():
            if exec_id in self.children:
                self._persist(
                    lambda exec_id=exec_id: self.invoke(exec_id),
                    # A launch that is recorded is started without its client.
                    lambda exec_id=exec_id: stored.get(keys.launch(exec_id)) is not None,
                )
            for wait in range(0 if exec_id in self.unanswered else number):
                value = self.chance.randrange(1000)
                self._answer_later(exec_id, f"w{wait}", value)
        while not self._is_over():
            self.run.block(1.0)
            self._bury()
            if self.run.now > self.end:
                raise Violation(f"not finished: {self._left()}")

    def _answer_later(self, exec_id: str, wait: str, value: Any) -> None:
        if self.kinds[exec_id, wait] != "timer":
            self._persist(lambda: self.answer(exec_id, wait, value))

    def _persist(
        self, work: Callable[[], object], is_enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Run a program until it has succeeded: a person who was not answered tries again."""

        def again() -> None:
            if not is_enough():
                self.at_death(self.process(work), again)

        again()

    def _is_over(self) -> bool:
        return not self._left()

    def _left(self) -> list[str]:
        stored = self.service.objects
        running = [one for one in self.waits if self._may_run(one)]
        hints = (keys.DUE, keys.OPEN, keys.QUEUE)
        return [*running, *(key for prefix in hints for key in stored.list(prefix))]

    def _may_run(self, exec_id: str) -> bool:
        """Return whether an execution has not ended. A child of a cancelled one may never start."""
        stored = self.service.objects
        is_never = exec_id not in self.children and stored.get(keys.launch(exec_id)) is None
        above = next((one for one, own in self.children.items() if exec_id in own.values()), "")
        if is_never and above in self.cancelled and stored.get(keys.end(above)) is not None:
            return False
        return stored.get(keys.end(exec_id)) is None

    def _has_completed(self, exec_id: str) -> bool:
        data = self.service.objects.get(keys.end(exec_id))
        end = None if data is None else decode(keys.end(exec_id), data)
        return isinstance(end, EndRecord) and end.status == "completed"

    def check(self) -> None:
        """Raise Violation if an invariant is violated."""
        for (exec_id, round), runs in self.ran.items():
            if len(runs) > 1:
                raise Violation(f"code of round {round} of {exec_id} ran in {sorted(runs)}")
        for exec_id, own in self.children.items():
            for call, child in own.items() if self._has_completed(exec_id) else ():
                if self._used(exec_id, children.wait_of(call)) != "completed":
                    raise Violation(f"{exec_id} did not get the result of its child {child}")
        completed = {one: n for one, n in self.waits.items() if self._has_completed(one)}
        if wrong := self.waits.keys() - completed.keys() - self._may_be_cancelled():
            raise Violation(f"cancelled: {sorted(wrong)}")
        for exec_id, number in completed.items():
            for wait in (f"w{one}" for one in range(number)):
                used, value = self._used(exec_id, wait), self.acknowledged.get((exec_id, wait))
                if used is None or value not in (None, used):
                    raise Violation(f"the answer {value} to {wait} of {exec_id} became {used}")
                if used == EXPIRED and self.kinds[exec_id, wait] == "question":
                    raise Violation(f"{wait} of {exec_id} expired and has no deadline")

    def _may_be_cancelled(self) -> set[str]:
        return set(self.waits) if self.cancelled else set()

    def _used(self, exec_id: str, wait: str) -> Any:
        key = keys.invocation(exec_id, wait)
        record = decode(key, self.service.objects.get(key) or b"")
        assert isinstance(record, InvocationRecord) and record.value is not None
        return record.value.data

    def twice(self) -> int:
        """Return how many runs were started more than needed."""
        names = Counter(run.id.partition("#")[0] for run in self.orchestrator.runs.values())
        return sum(number - 1 for number in names.values())


def execution(
    exec_id: str, run: str, parent: str, limits: ExecutionLimits | None
) -> ExecutionRecord:
    """Return the record of a deployed execution."""
    nothing = StoredValue({}, digest="sha256:0")
    place = (exec_id, "flow", "flow", "flow.py", "deployed", nothing, "", now())
    recorded = {} if limits is None else limits.to_json()
    return ExecutionRecord(*place, target=TARGET, run=run, parent=parent, limits=recorded)


def _outcome(wait: str, value: Any) -> InvocationRecord:
    stored = StoredValue(value, digest="sha256:1")
    return InvocationRecord(wait, wait, "wait", "kitaru.wait", "", "completed", value=stored)


class InOrder:
    """A pool that does its work in order: threads of a pool would be real."""

    def __init__(self, threads: int) -> None:
        del threads

    def __enter__(self) -> InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the work is done."""

    def map(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        return map(work, items)


@contextmanager
def _patched(world: World) -> Iterator[None]:
    """Let the product start runs on the world's orchestrator, and read its store."""
    orchestrator, may_be_old = world.orchestrator, service._may_be_old

    def start_run(journal: Journal, record: Any, options: Any, **_: Any) -> Submitted:
        name = submissions.token_of(journal.exec_id, record.round)
        return orchestrator.submit(name, journal.exec_id, record.round)

    def invoke(version: Any, store: Any, *, exec_id: str, token: str, **_: Any) -> Submitted:
        return orchestrator.submit(token, exec_id, None)

    def is_old(prefix: str) -> bool:
        return (
            may_be_old(prefix)
            or prefix.startswith((keys.DUE, keys.OPEN, keys.QUEUE))
            or "/round/" in prefix
        )

    version = SimpleNamespace(target=TARGET, version="v1")
    with ExitStack() as stack:
        for place, name, replaced in (
            (submissions, "start_run", start_run),
            (kitaru_targets.deploy, "invoke", invoke),
            (advance, "Deployments", lambda store: SimpleNamespace(get=lambda name: version)),
            (advance, "service_options", lambda target: {}),
            (submissions, "plan_of", lambda store, version: None),
            (advance, "planned_limits", lambda plan, inputs: world.limits(inputs)),
            (advance, "notify_answer", orchestrator.notify),
            # So many kills would make an execution look like one that kills its runs.
            (rounds, "MOST_LOST", 10**6),
            (dispatch, "run_has_ended", orchestrator.has_ended),
            (dispatch, "ThreadPoolExecutor", InOrder),
            (service, "_may_be_old", is_old),
            (object_store, "_obstore", lambda: Bucket(world.service)),
            (object_store, "_connect", lambda *args, **limits: None),
        ):
            stack.enter_context(patch.object(place, name, replaced))
        yield


def simulate(
    seed: int,
    *,
    keeps_trace: bool = False,
    wrong: Sequence[AbstractContextManager[object]] = (),
    make: Callable[..., World] = World,
) -> Report:
    """Run a seed; `failure` of the report is the violated invariant, or None.

    `wrong` are patches that make the product faulty. `make` is the kind of world.
    """
    failure: BaseException | None = None
    # The seed does not determine when the garbage collector runs.
    gc.disable()
    try:
        world = make(seed, keeps_trace=keeps_trace)
        with _patched(world), ExitStack() as stack:
            for one in wrong:
                stack.enter_context(one)
            with simulated(world.run):
                try:
                    world.run.run(world.harness.start(world.play))
                    world.check()
                except Exception as error:
                    failure = error
    finally:
        gc.enable()
    return Report(
        seed,
        world.orchestrator.kind,
        len(world.waits),
        len(world.orchestrator.runs),
        world.superseded,
        world.twice(),
        world.kills,
        len(world.chaos.met),
        world.service.operations,
        world.run.steps,
        failure,
        world.run.trace,
    )
