"""Run a step of a pipeline: check the guard, read the frame, run blocks, write the frame."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

from kitaru.config import secret_names, setting, use_plan
from kitaru.errors import EnvironmentFailure, FlowError, UsageError, ValueNotEncodable, WaitConflict
from kitaru.hints import retry_help
from kitaru.runtime import codec
from kitaru.runtime.engine import awaiting, declared_changes, inputs, promised_calls, waits
from kitaru.runtime.engine.execution import Execution, Scope, Stop, entered
from kitaru.runtime.engine.recorded_inputs import restore
from kitaru.runtime.engine.signals import INTERRUPTED
from kitaru.runtime.journal import launches, places, processes, rounds
from kitaru.runtime.journal.blobs import store_value
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.llm import preload
from kitaru.runtime.steps.control_flow import END, ControlFlow, Entry, Outputs
from kitaru.runtime.steps.fan_out_node import ItemRun
from kitaru.runtime.steps.frames import (
    Frame,
    Variables,
    decode_frame,
    encode_frame,
    handed_on,
    note_of,
    note_of_calls,
    note_of_globals,
    note_of_tasks,
    promised_in,
)
from kitaru.runtime.steps.process import (
    Pause,
    Request,
    exit_now,
    on_own_thread,
    report,
    say,
    say_failure,
    stop_process,
)
from kitaru.runtime.steps.program import (
    Program,
    given_of,
    inputs_of,
    load_program,
    project_modules,
    read_plan,
)
from kitaru.runtime.steps.state_changes import Finder, Watch
from kitaru.runtime.telemetry import output, spans
from kitaru.stores import Store, open_store
from kitaru.version import VERSION
from kitaru.wire import canonical, keys, redaction
from kitaru.wire.flow_limits import ExecutionLimits, planned_limits, recorded_limits
from kitaru.wire.ids import Counters
from kitaru.wire.plan import Plan, Resources, Step
from kitaru.wire.records import ExecutionRecord, ExitRecord
from kitaru.wire.structs import Struct
from kitaru.wire.times import now, seconds_until


def run_step(request: Request) -> int:
    """Run one step; return the exit code of its process, unless the process ends itself.

    Raises:
        KitaruError: the inputs, the plan or the store are not valid; none of the flow's code has
            run.
    """
    plan, digest = read_plan(request.plan, request.plan_digest)
    use_plan({**plan.settings, "models": plan.models})
    redaction.register_names({*plan.secrets, *secret_names()})
    step = _named(plan, request.step)
    store = open_store(request.store or None)
    load = _once(lambda: load_program(plan, digest, request.plan))
    begins = step.entry == plan.blocks[0].name and not plan.residual_of
    begun = None if begins and not request.existing else Journal.open(store, request.exec_id)
    if begun is not None:
        begun.inspect()
        if request.answer and begun.end() is None:
            _take(request.answer, begun)
    limits = recorded_limits(begun.execution) if begun else _limits(request, plan, store)
    fence = Fence(request, store, limits)
    if fence.place.status == "parked":
        parked = begun or Journal.open(store, request.exec_id)
        if _expire(parked, fence.place.waits):
            fence = Fence(request, store, limits)
    if fence.place.status == "full":
        raise EnvironmentFailure(
            f"{plan.flow} has no free place under its limits: {fence.refusal}. Nothing ran.",
            help="Start it again later. Runs that `kitaru invoke` starts wait in a queue instead.",
        )
    if fence.place.status == "superseded" and (begun is None or begun.end() is None):
        say(f"kitaru: {request.exec_id}: superseded by {fence.place.other or 'a later round'}")
        say(f"help: if that run is gone: kitaru executions resume {request.exec_id} --again")
        request.publish(END, "skip")
        return request.skip_code
    journal = begun or _begin(request, load(), store, limits)
    route = ControlFlow(journal, plan, digest, step)
    if journal.end() is not None:
        came = step.entry == plan.blocks[0].name or route.was_reached(step.entry)
        # An orchestrator that follows the outcome ends its run, wherever the flow has ended.
        request.publish(END, "end" if came or request.outcome_key else "skip")
        return 0 if came else request.skip_code
    if step.per_item:
        return ItemRun(request, load, step, journal, route).run()
    entry = route.entry(step.entry)
    if entry.left is not None:
        request.publish(*route.forward(entry.left))
        return 0
    pointer = route.pointer(entry.block)
    if pointer is None and entry.block != plan.blocks[0].name:
        request.publish(END, "skip")
        return request.skip_code
    if pointer is not None and "passed" in pointer:
        request.publish(*route.outputs(pointer["passed"]))
        return 0
    if fence.place.status == "parked":
        waiting = Outputs(END, "waiting") if entry.waited is None else route.forward(entry.waited)
        request.publish(*waiting, pause=_pause(journal, fence.place))
        return 0
    program = load()
    preload.start(program.functions[entry.block])
    if request.existing or plan.residual_of:
        # The execution was waiting or had failed. From here on it runs.
        journal.set_state("running")
    return StepRun(request, program, step, journal, route, entry, fence).run()


class Fence:
    """The round that this process runs in. Only one run has it, so only one runs the flow's code.

    A dry run needs no rounds: nothing else starts its steps.
    """

    def __init__(
        self, request: Request, store: Store, limits: ExecutionLimits | None = None
    ) -> None:
        self._limits = limits
        # The limit that leaves no place for a run.
        self.refusal = ""
        self._records = RecordStore(store)
        self._exec_id, self._target = request.exec_id, request.target
        # Each process on this machine is a run of its own.
        self._run = processes.own_token() if request.target == "local" else request.run
        self.is_needed = os.environ.get("KITARU_MODE") != "dry-run"
        number = os.environ.get(rounds.VARIABLE)
        self.place = rounds.Entered("running", 0)
        if self.is_needed:
            self.place = rounds.enter(
                self._records,
                self._exec_id,
                self._run,
                target=self._target,
                number=int(number) if number else None,
                admits=self._admits if limits is not None else None,
            )

    def park(self, waits: list[str]) -> rounds.Entered:
        """Close the round at waits without an answer; take the next one if an answer arrived."""
        if not self.is_needed:
            return rounds.Entered("parked", 0, waits=tuple(waits))
        round, run, target = self.place.round, self._run, self._target
        return rounds.park(
            self._records,
            self._exec_id,
            round,
            run,
            waits,
            target=target,
            admits=self._admits if self._limits is not None else None,
        )

    def _admits(self, number: int) -> bool:
        """Return whether the limits have a place for a round: given by a dispatcher, or now."""
        assert self._limits is not None
        wanted = places.Wanted(self._exec_id, number, self._limits, number == 1)
        refused = places.ask(self._records, self._limits.flow, [wanted])[wanted.id]
        self.refusal = "" if refused is None else str(refused.limit)
        return refused is None

    def end(self) -> None:
        """Delete the hint of the round, whose execution has ended."""
        if self.is_needed:
            rounds.drop(self._records.store, keys.open_round(self._exec_id, self.place.round))


def _take(text: str, journal: Journal) -> None:
    """Record an answer passed to the orchestrator, unless another answer was recorded first."""
    name, value = _named_answer(text)
    recorded = journal.wait_answer(name)
    if recorded is not None and recorded.kind == "expired":
        # The orchestrator only had to be notified.
        return
    try:
        waits.answer(journal, waits.select_wait(journal, name), value)
    except WaitConflict as error:
        say(error.message)


def _named_answer(text: str) -> tuple[str, Any]:
    try:
        given = json.loads(text)
        return str(given["name"]), given["value"]
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f"{text!a} is no answer that the orchestrator could have been given.",
            help='An answer is JSON such as {"name": "approve", "value": true}.',
        ) from None


class _Left(Struct):
    """The end of a process at a cut: `exit` is recorded."""

    exit: ExitRecord


class _Ended(Struct):
    """The end of the flow with its result."""

    value: Any


class StepRun:
    """The process of one step, which ends at a cut, at a wait, or with the flow."""

    def __init__(
        self,
        request: Request,
        program: Program,
        step: Step,
        journal: Journal,
        route: ControlFlow,
        entry: Entry,
        fence: Fence,
    ) -> None:
        self.retries_here = True
        self._fence = fence
        self._request = request
        self._program = program
        self._plan = program.plan
        self._step = step
        self._journal = journal
        self._route = route
        self._entry = entry.block
        self._passed: list[str] = []
        self._notes: list[dict[str, Any]] = []
        self._ending = threading.Lock()
        # A wait that still has no answer is reported with the earlier exit.
        self._waiting = entry.waited
        self._watch = Watch(program)
        # The unfinished tasks of an async body, from one block to the next.
        self._tasks: list[Any] = []
        self._execution = Execution(
            journal,
            self,
            awaiting.result_of,
            cache=journal.execution.cache,
            policy=program.policy,
            attempted=step.retry == "native",
            run=request.run,
            max_parallel=program.plan.max_parallel,
            capture=program.flow.capture,
            budget=program.flow.budget,
            pickles=program.plan.pickles,
            is_other_plan=route.is_other_plan,
        )

    def run(self) -> int:
        """Run blocks until a cut or the end; return the exit code of the process."""
        spans.begin(self._journal, self._step.name)
        output.begin(self._execution)
        try:
            with entered(Scope(self._execution)), Finder(self._watch):
                if self._program.is_async:
                    return self._ended(on_own_thread(self._run_on_loop))
                variables = self._variables()
                self._watch.entered(variables)
                return self._ended(self._run(self._entry, variables))
        except EnvironmentFailure as error:
            return report(error)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BaseException as error:
            self._execution.fail(error, retry_help(self._journal))
            say_failure(error)
            return 1
        finally:
            self._execution.beats.pause()
            output.end()

    def _variables(self) -> Variables:
        pointer = self._route.pointer(self._entry)
        if pointer is None:
            recorded = codec.decode(self._journal.fetch(self._journal.execution.inputs))
            flow = self._program.flow
            return dict(restore(flow.name, flow.function, recorded).bound.arguments)
        document = self._route.frame(pointer["from"])
        self._execution.adopt(
            [promised_calls.read(p, self._execution) for p in promised_in(document)]
        )
        modules = project_modules(self._program)
        restored, unpickle = self._execution.restored_future, self._plan.pickles
        frame = decode_frame(document, modules, restored, unpickle=unpickle)
        self._execution.counters = Counters.from_json(frame.counters)
        self._execution.unread = list(frame.unread)
        self._passed = list(frame.passed)
        return frame.variables

    def _run(self, block: str, variables: Variables) -> _Left | _Ended:
        while True:
            self._begin_block(block)
            following, value = self._program.functions[block](variables)
            if following is None:
                return _Ended(value)
            variables = self._handed_on(block, following, variables, value)
            if self._may_exit(block, following):
                self._execution.settle()
                if left := self._cross(block, following, variables):
                    return left
            block = following

    def _run_on_loop(self) -> _Left | _Ended:
        # asyncio is imported for async flows only.
        from kitaru.runtime.engine import body_loop

        ended: _Left | _Ended = body_loop.run(self._execution, self._run_async())
        return ended

    async def _run_async(self) -> _Left | _Ended:
        """Run the blocks of an async flow, all in one task of one event loop."""
        loop, block = self._execution.loop, self._entry
        variables = self._variables()
        self._watch.entered(variables)
        while True:
            self._begin_block(block)
            following, value = await self._program.functions[block](variables)
            if following is None:
                return _Ended(value)
            variables = self._handed_on(block, following, variables, value)
            if self._may_exit(block, following):
                if alive := loop.alive():
                    self._stay(block, following, alive)
                else:
                    # The submitted calls that it waits for may run on this loop.
                    await loop.in_thread(self._execution.settle)
                    if left := self._cross(block, following, variables):
                        return left
            # asyncio does not keep a task alive whose variable is not read any more.
            self._tasks = loop.tasks()
            block = following

    def _begin_block(self, block: str) -> None:
        native = self._step.retry == "native" and block in self._step.blocks
        self.retries_here = not native
        self._execution.submitted.promising = self._route.fan_of(block) is not None
        self._watch.ran(block)

    def _handed_on(self, block: str, following: str, variables: Variables, value: Any) -> Variables:
        return handed_on(self._plan.block(block), self._plan.block(following), variables, value)

    def _may_exit(self, block: str, following: str) -> bool:
        """Return whether this process may end before `following`; start the calls that stay."""
        self._waiting = None
        if self._plan.block(following).kind == "wait":
            return True
        if self._route.cut_before(following) is None:
            return False
        self._start_unencodable_calls(block)
        return True

    def _cross(self, block: str, following: str, variables: Variables) -> _Left | None:
        """End this segment before `following`; return None if this process continues."""
        if self._plan.block(following).kind == "wait":
            self._waiting = self._exit("waiting", following, variables)
            return None
        left = self._exit("go", following, variables)
        if left is not None:
            return _Left(self._route.record_exit(left))
        self._continue_in_process(block, following)
        return None

    def _stay(self, block: str, following: str, alive: list[str]) -> None:
        """Continue in this process, because tasks of the body would end with it."""
        starts = self._plan.block(following)
        self._notes.append(note_of_tasks(alive, starts))
        if starts.kind != "wait":
            self._continue_in_process(block, following)

    def _ended(self, end: _Left | _Ended) -> int:
        if isinstance(end, _Ended):
            return self._end(end.value)
        self._request.publish(*self._route.forward(end.exit))
        return 0

    def _exit(
        self, status: Literal["go", "waiting"], following: str, variables: Variables
    ) -> ExitRecord | None:
        """Return the exit of this segment before `following`, None if its state cannot cross."""
        block = self._plan.block(following)
        frame = Frame(
            variables,
            self._execution.counters.to_json(),
            tuple(self._execution.unread),
            tuple(self._passed),
            tuple(
                promised_calls.write(p, self._journal) for p in self._execution.submitted.promises()
            ),
        )
        lost = self._watch.lost(following, variables)
        if lost is not None:
            self._notes.append(note_of_globals(lost, block))
            return None
        try:
            modules = project_modules(self._program)
            document = encode_frame(frame, modules, self._execution.may_pickle)
            stored = self._journal.store_document(document, "frame")
        except ValueNotEncodable as error:
            self._notes.append(note_of(error, variables, block))
            return None
        key = self._route.key(self._entry)
        return ExitRecord(key, status, following, stored, tuple(self._notes))

    def _start_unencodable_calls(self, block: str) -> None:
        submitted = self._execution.submitted
        ids = [one.call.id for one in submitted.promises() if not one.may_cross()]
        if ids:
            note = note_of_calls(ids, self._plan.block(block))
            self._notes.append(note)
            self._need_no_process_of_its_own(self._route.fan_of(block), note)
            submitted.start(*ids)

    def _continue_in_process(self, block: str, following: str) -> None:
        """Continue in this process with the next step: its submitted calls, then its block."""
        note = self._notes[-1]
        self._need_no_process_of_its_own(self._route.fan_of(block), note)
        self._need_no_process_of_its_own(self._route.cut_before(following), note)
        say(f"{note['file']}:{note['line']}: continues in this process: {note['message']}")
        self._execution.submitted.start()
        self._passed.append(following)

    def _need_no_process_of_its_own(self, step: Step | None, note: dict[str, Any]) -> None:
        if step is None:
            return
        elsewhere = step.resources not in (Resources(), self._step.resources)
        if step.isolated or elsewhere:
            self._execution.submitted.forget()
            needs = "isolation" if step.isolated else "resources of its own"
            raise FlowError(
                f"{note['file']}:{note['line']}: the step {step.name} needs {needs}, but "
                f"{note['message']}.",
                help="Await the tasks first."
                if note["type"] == "task"
                else "Make the value one that can be recorded, or make it inside the checkpoint.",
            )

    def _end(self, result: Any) -> int:
        self._execution.complete(result)
        key = self._route.key(self._entry)
        self._route.record_exit(ExitRecord(key, "end", None, None, tuple(self._notes)))
        self._fence.end()
        self._request.publish(END, "end")
        return 0

    # What the engine asks

    def pause(self, seconds: float) -> bool:
        """Wait in this container: the orchestrator does not start the next attempt."""
        time.sleep(seconds)
        return True

    def suspend(self, wait: str) -> None:
        """End the process without unwinding the flow; the answer starts another process."""
        self._leave([wait])

    def release(self, waits: list[str], wake: Callable[[], None]) -> None:
        """End the process; the answer to one of the waits starts another process."""
        self._leave(waits)

    def _leave(self, waits: list[str]) -> NoReturn:
        self._execution.drain()
        if not self._fence.is_needed:
            # Other threads that wait ask their questions meanwhile.
            self._journal.set_state(self._journal.paused(waits))
        # Several threads may suspend concurrently. The first ends the process and writes the
        # outputs.
        with self._ending:
            outputs = Outputs(END, "waiting")
            if self._waiting is not None:
                outputs = self._route.forward(self._route.record_exit(self._waiting))
            place = self._fence.park(waits)
            if place.status == "running":
                # The answer arrived meanwhile, and this run has the next round: begin again.
                stop_process(self._request, "superseded", None)
            if place.status == "superseded":
                # Another run continues the execution. This one publishes nothing.
                self._request.publish(END, "skip")
                exit_now(self._request.skip_code)
            self._journal.set_state(self._journal.paused(waits))
            self._request.publish(*outputs, pause=_pause(self._journal, place))
            exit_now(0)

    def occupy(self) -> None:
        """Do nothing: the process of a released step has ended."""

    def stop(self, why: Stop, error: BaseException | None) -> None:
        stop_process(self._request, why, error)


def _expire(journal: Journal, waits: Sequence[str]) -> bool:
    """Let the waits of a parked run expire whose deadline has passed; return whether to look again.

    An orchestrator that waits by itself starts the step at the deadline. Its clock, or a dispatcher
    that was earlier, changes nothing: the first answer counts. A deadline in a moment is awaited.
    """
    open_waits = [name for name in waits if journal.wait_answer(name) is None]
    if len(open_waits) < len(waits):
        return True  # Somebody has answered one meanwhile.
    until = _first_deadline(journal, open_waits)
    if not until or seconds_until(until) > setting("sleep_in_process").value:
        return False
    time.sleep(max(0.0, seconds_until(until)))
    return bool(journal.expire_due(open_waits))


def _pause(journal: Journal, place: rounds.Entered) -> Pause | None:
    """Return what a parked run waits for. A question is asked rather than a sleep.

    A run that only needs a place has no deadline: the dispatcher that gives it the place starts
    the step again.
    """
    requests = [one for one in map(journal.wait_request, place.waits) if one is not None]
    if not requests:
        return None
    asked = min(requests, key=lambda one: one.kind == "timer")
    return Pause(asked, "" if place.is_full else _first_deadline(journal, place.waits))


def _first_deadline(journal: Journal, waits: Sequence[str]) -> str:
    requests = (journal.wait_request(name) for name in waits)
    return min((one.deadline for one in requests if one is not None and one.deadline), default="")


def _limits(request: Request, plan: Plan, store: Store) -> ExecutionLimits | None:
    """Return the limits of an execution whose first step starts."""
    if not plan.limits or os.environ.get("KITARU_MODE") == "dry-run":
        return None
    launch = launches.recall(store, request.exec_id)
    given = given_of(plan, request.given.read(plan, store)) if launch is None else launch.inputs
    return planned_limits(plan, given)


def _begin(
    request: Request, program: Program, store: Any, limits: ExecutionLimits | None
) -> Journal:
    plan, flow = program.plan, program.flow
    launch = launches.check_plan(store, request.exec_id, program.digest)
    bound = inputs_of(plan, flow, request.given.read(plan, store))
    document = inputs.encode(plan.flow, bound)
    record = ExecutionRecord(
        exec_id=request.exec_id,
        flow=plan.flow,
        module=plan.module,
        file=plan.file,
        mode="dry-run" if os.environ.get("KITARU_MODE") == "dry-run" else "deployed",
        inputs=store_value(store, keys.home(request.exec_id), document, "inputs"),
        inputs_digest=canonical.digest(document),
        started_at=now(),
        target=request.target,
        run=request.run,
        plan_digest=program.digest,
        bundle_digest=os.environ.get("KITARU_BUNDLE", ""),
        kitaru_version=VERSION,
        cache=setting("cache", decorator=flow.cache).value,
        changes=declared_changes.declared(),
        parent=launch.parent if launch is not None else "",
        limits=limits.to_json() if limits is not None else {},
    )
    journal = Journal.create(store, record)
    if journal.end() is None:
        journal.set_state("running")
    return journal


def _named(plan: Plan, name: str) -> Step:
    try:
        return plan.step(name)
    except KeyError:
        raise EnvironmentFailure(
            f"The plan of {plan.flow} has no step {name!r}.",
            help="The document and the bundle are of different compilations; compile again.",
        ) from None


def _once(make: Callable[[], Program]) -> Callable[[], Program]:
    made: list[Program] = []

    def get() -> Program:
        if not made:
            made.append(make())
        return made[0]

    return get
