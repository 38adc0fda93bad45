"""Run one flow in two ways within this process: as plain Python, and cut into blocks with frames.

The primitives are stand-ins: a checkpoint traces its call and returns a copy of its result, as the
journal does; a wait is answered from a table; memory is a dictionary that all processes share;
an inbox gets one signal more each time. Any
difference between the two runs is therefore a fault of the compiler.
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import builtins
import copy
import inspect
import re
import selectors
import shutil
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from kitaru_compiler import Compilation, compile_flow

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.codec.stateless import stateless
from kitaru.runtime.engine.futures import Future, resolve_futures
from kitaru.runtime.llm import answers, providers
from kitaru.runtime.llm.offline import offline_text
from kitaru.runtime.llm.replies import Reply, ToolCall
from kitaru.runtime.steps import blocks, frames, program
from kitaru.runtime.steps.state_changes import Watch
from kitaru.wire.plan import Granularity, Plan
from tests.differential.futures import Submitted

# No flow of these tests passes more blocks.
_MOST_BLOCKS = 100_000
ANSWERS = {"ok": True, "no": False, "number": 7}
GONE = object()
KITARU = Path(codec.__file__).parents[2]
ADDRESS = re.compile(r"0x[0-9a-f]+")

# Function, line, column, end line, end column.
Place = tuple[str, int | None, int | None, int | None, int | None]


@dataclass
class Outcome:
    """The outcome of a run: its value or its error, and all its events, in order.

    `raised_at` are the places of the user's files in the traceback of the error, innermost last:
    function, line, column, end line, end column. `cuts` and `elided` are the numbers of frames that
    were encoded and that could not be encoded.
    """

    result: Any
    trace: list[str]
    raised_at: list[Place] = field(default_factory=list)
    cuts: int = 0
    elided: int = 0

    def same(self) -> tuple[Any, ...]:
        """Return the parts that must be equal for every cut of the flow."""
        return self.result, self.trace, self.raised_at


@dataclass
class World:
    """A user's module with stand-in primitives, and the trace of one run."""

    path: Path
    trace: list[str]
    remembered: dict[str, list[Any]] = field(default_factory=dict)
    submitted: Submitted = field(default_factory=Submitted)
    signals: dict[str, int] = field(default_factory=dict)
    modules: dict[str, types.ModuleType] = field(default_factory=dict)
    watch: Watch | None = None
    importing: int = 0

    def module(self) -> types.ModuleType:
        """Run the module at `path`, and the modules next to it when they are imported."""
        self.modules["kitaru"] = self._kitaru()
        for beside in self.path.parent.glob("*.py"):
            sys.modules.pop(beside.stem, None)
        return self._load(self.path)

    def _load(self, path: Path) -> types.ModuleType:
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        # The trace belongs to the tests, and is not state of the program.
        module.trace = stateless(lambda event: self.trace.append(event))  # type: ignore[attr-defined]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        sys.modules[module.__name__] = self.modules[path.stem] = module
        self.importing += 1
        exec(_code(path.read_text(encoding="utf-8"), str(path)), module.__dict__)
        self.importing -= 1
        if self.watch and not self.importing:
            self.watch.imported()
        return module

    def _import(self, name: str, *rest: Any) -> Any:
        beside = self.path.parent / f"{name}.py"
        if name not in self.modules and beside.is_file():
            self._load(beside)
        return self.modules.get(name) or builtins.__import__(name, *rest)

    def _kitaru(self) -> types.ModuleType:
        fake = types.ModuleType("kitaru")

        @stateless
        def checkpoint(function: Callable[..., Any] | None = None, **_: Any) -> Any:
            if function is None:
                return checkpoint
            if inspect.iscoroutinefunction(function):
                later = self._async(function)
                return Checkpoint(function, later, self.submitted.methods(later))

            def call(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = resolve_futures(args), resolve_futures(kwargs)
                event = f"{function.__name__}{args!r}{sorted(kwargs.items())!r}"
                self.trace.append(ADDRESS.sub("0x", event))
                return codec.decode(codec.encode(function(*args, **kwargs)))

            return Checkpoint(function, call, self.submitted.methods(call))

        @stateless
        def wait(*, name: str = "wait", **_: Any) -> Any:
            self.trace.append(f"wait {name}")
            return ANSWERS.get(name)

        fake.checkpoint = checkpoint  # type: ignore[attr-defined]
        fake.stateless = stateless  # type: ignore[attr-defined]
        fake.flow = stateless(lambda function=None, **_: function or fake.flow)  # type: ignore[attr-defined]
        fake.wait = wait  # type: ignore[attr-defined]
        fake.llm = checkpoint(_llm)  # type: ignore[attr-defined]
        fake.inbox = stateless(self._inbox)  # type: ignore[attr-defined]
        fake.memory = self._memory()  # type: ignore[attr-defined]
        awaitable = {name: _awaitable(one) for name, one in vars(fake.memory).items()}
        fake.aio = types.SimpleNamespace(  # type: ignore[attr-defined]
            wait=_awaitable(wait),
            llm=_awaitable(fake.llm),
            inbox=_awaitable(fake.inbox),
            memory=types.SimpleNamespace(**awaitable),
        )
        return fake

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what an async checkpoint is when it is called: it keeps its arguments."""

        async def run(args: Any, kwargs: Any) -> Any:
            args, kwargs = resolve_futures(args), resolve_futures(kwargs)
            event = f"{function.__name__}{args!r}{sorted(kwargs.items())!r}"
            self.trace.append(ADDRESS.sub("0x", event))
            value = codec.decode(codec.encode(await function(*args, **kwargs)))
            await asyncio.sleep(0)
            return value

        return lambda *args, **kwargs: run(*_copies(args, kwargs))

    def _inbox(self, name: str) -> list[Any]:
        """Return what a stand-in has sent: one signal more than at the last read."""
        self.trace.append(f"inbox {name}")
        self.signals[name] = self.signals.get(name, -1) + 1
        return list(range(self.signals[name]))

    def _memory(self) -> types.SimpleNamespace:
        def newest(key: str) -> Any:
            return (self.remembered.get(key) or [GONE])[-1]

        def get(key: str, default: Any = None) -> Any:
            self.trace.append(f"memory.get {key}")
            return default if newest(key) is GONE else codec.decode(newest(key))

        def put(key: str, value: Any) -> int:
            self.trace.append(ADDRESS.sub("0x", f"memory.set {key} {value!r}"))
            document = codec.encode(value)
            self.remembered.setdefault(key, []).append(document)
            return len(self.remembered[key])

        def delete(key: str) -> bool:
            self.trace.append(f"memory.delete {key}")
            there = newest(key) is not GONE
            if there:
                self.remembered[key].append(GONE)
            return there

        def keys() -> list[str]:
            self.trace.append("memory.list")
            return sorted(key for key in self.remembered if newest(key) is not GONE)

        return types.SimpleNamespace(
            get=stateless(get), set=stateless(put), delete=stateless(delete), list=stateless(keys)
        )


class Checkpoint:
    """A stand-in for a checkpoint. Its function counts as state, as with a real checkpoint."""

    def __init__(
        self, function: Callable[..., Any], call: Callable[..., Any], methods: dict[str, Any]
    ) -> None:
        self.function = function
        self.name = self.__name__ = self.__qualname__ = function.__name__
        self._call = call
        vars(self).update(methods)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else types.MethodType(self, instance)


def _copies(args: Any, kwargs: Any) -> Any:
    try:
        return copy.deepcopy((args, kwargs))
    except Exception:
        return args, kwargs


def _awaitable(call: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        value = call(*args, **kwargs)
        await asyncio.sleep(0)
        return value

    return stateless(run)


class Loop(asyncio.SelectorEventLoop):
    """The event loop of a body: it accepts a future where it accepts its coroutine.

    Its clock jumps to the next timer as soon as all tasks wait.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.seconds

    def create_task(self, coro: Any, **options: Any) -> Any:
        return super().create_task(
            coro.coroutine() if isinstance(coro, Future) else coro, **options
        )


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self._loop.seconds += timeout
            timeout = 0
        return super().select(timeout)


def on_loop(work: Any) -> Any:
    """Return the result of a coroutine, run on a loop of its own, or a value."""
    if not isinstance(work, Coroutine):
        return work
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


# The codec identifies a class by its module and name.
Checkpoint.__module__ = "kitaru.checkpoints"


def _llm(prompt: Any, *, tools: Any = None, schema: Any = None, **_: Any) -> Any:
    """Answer as the offline model does; with tools, request one until its result is there."""
    if schema is not None:
        return answers.Shape(schema).read(
            providers.Answer(offline_text("", "", answers.Shape(schema).schema), 0, 0, None)
        )
    if tools is not None:
        asks = isinstance(prompt, str) or prompt[-1]["role"] != "tool"
        return Reply("", (ToolCall("1", "look", {"at": [1]}),) if asks else ())
    return f"<{prompt}>"


@lru_cache(maxsize=16)
def _code(source: str, path: str) -> types.CodeType:
    """Compile a module once for all processes of a program."""
    return compile(source, path, "exec")


@cache
def scratch() -> str:
    """Return the folder of this process's programs, which is deleted when the process ends."""
    made = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def compile_text(
    source: str, granularity: Granularity = "checkpoint", beside: dict[str, str] | None = None
) -> tuple[Compilation, Path]:
    """Compile the flow `main` of source text, with files `beside` it; return it and its path."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    for name, text in {"program.py": source, **(beside or {})}.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "program.py"
    return compile_flow(path, "main", granularity=granularity), path


def run_plain(compilation: Compilation, path: Path, inputs: dict[str, Any]) -> Outcome:
    """Run the flow's own function."""
    world = World(path, [])
    module = world.module()
    outcome = Outcome(None, world.trace)
    given = copy.deepcopy(inputs)
    return outcome_of(
        outcome,
        path,
        lambda: world.submitted.finish(on_loop(call_flow(compilation.plan, module, given))),
    )


def run_cut(
    compilation: Compilation, path: Path, inputs: dict[str, Any], *, everywhere: bool = False
) -> Outcome:
    """Run the blocks; at every cut, pass only the encoded frame to a new process.

    `everywhere` cuts at every block, as a plan with other edges, a wait or a crash might.
    """
    outcome = Outcome(None, [])
    process = Process(compilation, path, outcome.trace)
    entries = cuts_of(compilation.plan, everywhere=everywhere)
    given = copy.deepcopy(inputs)
    return outcome_of(
        outcome, path, lambda: process.submitted.finish(_steps(process, given, outcome, entries))
    )


def cuts_of(plan: Plan, *, everywhere: bool) -> frozenset[str]:
    """Return the blocks at which a run is cut; none in a flow that is one block."""
    if plan.blocks[0].kind == "flow":
        return frozenset()
    if everywhere:
        return frozenset(block.name for block in plan.blocks)
    return frozenset(step.entry for step in plan.steps)


@dataclass
class Process:
    """The environment of one step: the user's module, newly imported, and its blocks."""

    compilation: Compilation
    path: Path
    trace: list[str]
    remembered: dict[str, list[Any]] = field(default_factory=dict)
    submitted: Submitted = field(default_factory=Submitted)
    signals: dict[str, int] = field(default_factory=dict)
    tree: ast.Module | None = None

    def __post_init__(self) -> None:
        plan = self.compilation.plan
        world = World(self.path, self.trace, self.remembered, self.submitted, self.signals)
        self.module = world.module()
        functions = {}
        if plan.blocks[0].kind != "flow":
            self.tree = self.tree or blocks.located(plan, self.compilation.steps_py)
            functions = blocks.load(plan, self.tree, self.module)
        self.program = program.Program(plan, "", self.module, None, functions)
        self.watch = world.watch = Watch(self.program)

    def modules(self) -> codec.Modules:
        return program.project_modules(self.program)

    def run(self, block: str, variables: dict[str, Any]) -> Any:
        """Run a block and return its result."""
        self.watch.ran(block)
        return self.program.functions[block](variables)

    def frame(self, following: str, variables: dict[str, Any]) -> Any:
        """Return the encoded frame; raise ValueNotEncodable if the cut must be omitted."""
        lost = self.watch.lost(following, variables)
        if lost is not None:
            raise ValueNotEncodable(f"the state of {lost.names}")
        return codec.encode_frame(variables, self.modules())

    def variables(self, frame: Any) -> dict[str, Any]:
        """Return the variables of an encoded frame."""
        codec.set_future_factory(self.submitted.future)
        try:
            variables = codec.decode_frame(frame, self.modules())
        finally:
            codec.set_future_factory(None)
        self.watch.entered(variables)
        return variables

    def next(self) -> Process:
        known = self.remembered, self.submitted, self.signals, self.tree
        return Process(self.compilation, self.path, self.trace, *known)


def _steps(process: Process, variables: dict[str, Any], outcome: Outcome, entries: Set[str]) -> Any:
    plan = process.compilation.plan
    if plan.blocks[0].kind == "flow":
        return on_loop(call_flow(plan, process.module, variables))
    if inspect.iscoroutinefunction(getattr(process.module, plan.flow)):
        return _async_steps(process, variables, outcome, entries)
    order = {block.name: block.index for block in plan.blocks}
    name = plan.blocks[0].name
    while True:
        following, value = process.run(name, variables)
        if following is None:
            return value
        assert order[following] > order[name], "control jumped back"
        assert following in plan.block(name).next
        variables = frames.handed_on(plan.block(name), plan.block(following), variables, value)
        if following in entries:
            try:
                frame = process.frame(following, variables)
            except ValueNotEncodable:
                outcome.elided += 1
            else:
                outcome.cuts += 1
                process = process.next()
                variables = process.variables(frame)
        name = following


def _async_steps(
    process: Process, variables: dict[str, Any], outcome: Outcome, entries: Set[str]
) -> Any:
    name = process.compilation.plan.blocks[0].name
    for _ in range(_MOST_BLOCKS):
        following, value = on_loop(_one_process(process, name, variables, outcome, entries))
        if following is None:
            return value
        process = process.next()
        name, variables = following, process.variables(value)
    raise AssertionError("the flow does not end")


async def _one_process(
    process: Process, name: str, variables: dict[str, Any], outcome: Outcome, entries: Set[str]
) -> tuple[str | None, Any]:
    """Run blocks up to the next cut: return the next block and the frame, or None and the result.

    A cut is left out while tasks of the body are alive.
    """
    plan, tasks = process.compilation.plan, []
    for _ in range(_MOST_BLOCKS):
        following, value = await process.run(name, variables)
        if following is None:
            return None, value
        assert following in plan.block(name).next
        variables = frames.handed_on(plan.block(name), plan.block(following), variables, value)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if following in entries and not tasks:
            try:
                frame = process.frame(following, variables)
            except ValueNotEncodable:
                outcome.elided += 1
            else:
                outcome.cuts += 1
                for id in list(process.submitted.promised):
                    await process.submitted.make(id)
                return following, frame
        name = following
    raise AssertionError("the flow does not end")


def call_flow(plan: Plan, module: types.ModuleType, inputs: dict[str, Any]) -> Any:
    only = [p.name for p in plan.parameters if p.kind == "positional_only"]
    positional = [inputs.pop(name) for name in only]
    return getattr(module, plan.flow)(*positional, **inputs)


def outcome_of(outcome: Outcome, path: Path, run: Callable[[], Any]) -> Outcome:
    try:
        outcome.result = ADDRESS.sub("0x", repr(run()))
    except Exception as error:
        outcome.result = ADDRESS.sub("0x", f"{type(error).__name__}: {error}")
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, AttributeError) and Path(frames[-1].filename).is_relative_to(KITARU):
            raise  # A stand-in lacks what Kitaru asks it for; the flow has not failed.
        outcome.raised_at = _places([f for f in frames if Path(f.filename).parent == path.parent])
        if isinstance(error, UnboundLocalError) and outcome.raised_at:
            # Python 3.11 may load two variables at once in warm code. It then reports the second
            # as unbound at the place of the first.
            outcome.raised_at[-1] = (outcome.raised_at[-1][0], None, None, None, None)
    return outcome


def _places(frames: list[traceback.FrameSummary]) -> list[Place]:
    """Return the places of frames; before 3.12, a list comprehension has a separate frame."""
    places: list[Place] = []
    for frame in frames:
        name = frame.name
        if name == "<listcomp>":
            name = places.pop()[0]
        places.append((name, frame.lineno, frame.colno, frame.end_lineno, frame.end_colno))
    return places
