"""Decides how a step of a pipeline goes on with a flow: guard, frame in, blocks, frame out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from kitaru.errors import (
    EnvironmentFailure,
    FlowError,
    KitaruError,
    ValueNotEncodable,
    WaitConflict,
)
from kitaru.runtime import codec, inputs, models, waits
from kitaru.runtime.commands import retry_help
from kitaru.runtime.context import Scope, entered
from kitaru.runtime.engine import Execution, Stop
from kitaru.runtime.failures import user_traceback
from kitaru.runtime.frames import (
    Frame,
    Variables,
    changed,
    decode_frame,
    encode_frame,
    note_of,
    note_of_globals,
)
from kitaru.runtime.given import Given
from kitaru.runtime.journal import Journal
from kitaru.runtime.program import Program, inputs_of, load_program, project_globals, read_plan
from kitaru.runtime.route import END, Route, StepStatus
from kitaru.runtime.values import store_value
from kitaru.stores import open_store
from kitaru.version import VERSION
from kitaru.wire import canonical, keys
from kitaru.wire.ids import Counters, check_execution_id, execution_id_of
from kitaru.wire.plan import Plan, Resources, Step
from kitaru.wire.records import ExecutionRecord, ExitRecord, WaitRequest
from kitaru.wire.times import now

INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """One start of a step's container, as its command line tells it.

    `execution` may be empty: then it is the orchestrator's own `run` that names the execution. Only
    the first step is given inputs. `answer` is one that was given to the orchestrator, as JSON with
    the `name` of the wait and the `value`. `skip_code` is what a step that has nothing to do ends
    with.
    """

    plan: Path
    step: str
    execution: str
    run: str
    store: str
    next_file: Path | None = None
    status_file: Path | None = None
    outcome_file: Path | None = None
    given: Given = field(default_factory=Given)
    target: str = ""
    answer: str = ""
    skip_code: int = 0

    @property
    def exec_id(self) -> str:
        return check_execution_id(self.execution or execution_id_of(self.run))

    def publish(self, next: str, status: StepStatus, wait: WaitRequest | None = None) -> None:
        """Write the step's native outputs, from which the orchestrator reads its conditions."""
        asked = (
            {"name": wait.name, "question": wait.question, "schema": wait.schema} if wait else {}
        )
        outcome = json.dumps({"next": next, "status": status, **({"wait": asked} if asked else {})})
        files = (self.next_file, self.status_file, self.outcome_file)
        for path, text in zip(files, (next, status, outcome), strict=True):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        say(f"kitaru: step {self.step} of {self.exec_id}: {status}, next {next}")


def run_step(request: Request) -> int:
    """Run one step; return the exit code of its process, unless the process ends itself.

    Raises:
        KitaruError: the inputs, the plan or the store are wrong; nothing of the flow has run.
    """
    plan, digest = read_plan(request.plan)
    step = _named(plan, request.step)
    store = open_store(request.store or None)
    load = _once(lambda: load_program(plan, digest, request.plan))
    if step.entry == plan.blocks[0].name and not plan.residual_of:
        journal = _begin(request, load(), store)
    else:
        journal = Journal.open(store, request.exec_id)
    route = Route(journal, plan, digest)
    if journal.end() is not None:
        came = step.entry == plan.blocks[0].name or route.came_to(step.entry)
        request.publish(END, "end" if came else "skip")
        return 0 if came else request.skip_code
    if request.answer:
        _take(request.answer, journal)
    entry, left = route.entry(step.entry)
    if left is not None:
        request.publish(*route.hand_on(left))
        return 0
    pointer = route.pointer(entry)
    if pointer is None and entry != plan.blocks[0].name:
        request.publish(END, "skip")
        return request.skip_code
    if pointer is not None and "passed" in pointer:
        request.publish(route.step_at(pointer["passed"]), "go")
        return 0
    models.use_plan_models(plan.models)
    return StepRun(request, load(), step, journal, route, entry).run()


def _take(text: str, journal: Journal) -> None:
    """Write down an answer that was given to the orchestrator, unless another one was first."""
    given = json.loads(text)
    try:
        waits.answer(journal, waits.pick(journal, given["name"]), given["value"])
    except WaitConflict as error:
        say(error.message)


class StepRun:
    """The process of one step, which ends at a cut, at a wait, or with the flow."""

    def __init__(
        self,
        request: Request,
        program: Program,
        step: Step,
        journal: Journal,
        route: Route,
        entry: str,
    ) -> None:
        self.retries_here = True
        self._request = request
        self._program = program
        self._plan = program.plan
        self._step = step
        self._journal = journal
        self._route = route
        self._entry = entry
        self._passed: list[str] = []
        self._notes: list[dict[str, Any]] = []
        self._waiting: ExitRecord | None = None
        self._globals = project_globals(program)
        self._execution = Execution(
            journal,
            self,
            cache=journal.execution.cache,
            retries=program.flow.retries,
            attempted=step.retry == "native",
        )

    def run(self) -> int:
        """Run blocks until a cut or the end; return the process's exit code."""
        try:
            with entered(Scope(self._execution)):
                return self._run(self._entry, self._variables())
        except EnvironmentFailure as error:
            return _report(error)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BaseException as error:
            self._execution.fail(error, retry_help(self._journal))
            say(user_traceback(error).rstrip())
            return 1

    def _variables(self) -> Variables:
        pointer = self._route.pointer(self._entry)
        if pointer is None:
            recorded = codec.decode(self._journal.fetch(self._journal.execution.inputs))
            return dict(inputs.restore(self._program.flow.function, recorded).arguments)
        frame = decode_frame(
            self._route.frame(pointer["from"]),
            vars(self._program.module),
            self._execution.restored,
        )
        self._execution.counters = Counters.from_json(frame.counters)
        self._execution.unread = set(frame.unread)
        self._passed = list(frame.passed)
        return frame.variables

    def _run(self, block: str, variables: Variables) -> int:
        while True:
            native = self._step.retry == "native" and block in self._step.blocks
            self.retries_here = not native
            following, value = self._program.functions[block](variables)
            if following is None:
                return self._end(value)
            live = self._plan.block(following).live
            variables = {name: value[name] for name in live if name in value}
            self._waiting = None
            if self._plan.block(following).kind == "wait":
                self._waiting = self._exit("waiting", following, variables)
            elif self._route.cut_before(following) is not None:
                left = self._exit("go", following, variables)
                if left is not None:
                    self._request.publish(*self._route.hand_on(self._route.leave(left)))
                    return 0
                self._pass(following)
            block = following

    def _exit(
        self, status: Literal["go", "waiting"], following: str, variables: Variables
    ) -> ExitRecord | None:
        """Return what this segment leaves before `following`, None when that cannot cross."""
        self._execution.settle()
        block = self._plan.block(following)
        frame = Frame(
            variables,
            self._execution.counters.to_json(),
            tuple(self._execution.unread),
            tuple(self._passed),
        )
        names = changed(self._globals, project_globals(self._program), self._plan.module)
        if names:
            self._notes.append(note_of_globals(names, block))
            return None
        try:
            document = encode_frame(frame, vars(self._program.module))
        except ValueNotEncodable as error:
            self._notes.append(note_of(error, variables, block))
            return None
        stored = self._journal.put(document, "frame")
        key = self._route.key(self._entry)
        return ExitRecord(key, status, following, stored, tuple(self._notes))

    def _pass(self, block: str) -> None:
        """Go on in this process with a block that has a step of its own."""
        step = self._route.cut_before(block)
        assert step is not None
        note = self._notes[-1]
        elsewhere = step.resources not in (Resources(), self._step.resources)
        if step.isolated or elsewhere:
            needs = "isolation" if step.isolated else "resources of its own"
            raise FlowError(
                f"{note['file']}:{note['line']}: the step {step.name} needs {needs}, but "
                f"{note['message']}.",
                help="Make the value one that can be recorded, or make it inside the checkpoint.",
            )
        say(f"{note['file']}:{note['line']}: goes on in this process: {note['message']}")
        self._passed.append(block)

    def _end(self, result: Any) -> int:
        self._execution.complete(result)
        key = self._route.key(self._entry)
        self._route.leave(ExitRecord(key, "end", None, None, tuple(self._notes)))
        self._request.publish(END, "end")
        return 0

    # What the engine asks

    def suspend(self, wait: str) -> None:
        """End the process without unwinding the flow; the answer starts another one."""
        self._execution.drain()
        outputs: tuple[str, StepStatus] = (END, "waiting")
        if self._waiting is not None:
            outputs = self._route.hand_on(self._route.leave(self._waiting))
        self._request.publish(*outputs, self._journal.wait_request(wait))
        _exit_now(0)

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """End the process, or begin it again where another one was first."""
        if why == "cancelled":
            self._request.publish(END, "end")
            _exit_now(0)
        if why == "superseded":
            _flush()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        if isinstance(error, KitaruError):
            _exit_now(_report(error))
        assert error is not None
        say(user_traceback(error).rstrip())
        _exit_now(1)


def _begin(request: Request, program: Program, store: Any) -> Journal:
    plan, flow = program.plan, program.flow
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
        cache=flow.cache is not False,
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


def _report(error: KitaruError) -> int:
    say(f"error: {error}")
    return error.exit_code


def _exit_now(code: int) -> NoReturn:
    _flush()
    os._exit(code)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def say(line: str) -> None:
    """Write a line to the step's log."""
    sys.stderr.write(line + "\n")
