"""Runs one flow in two ways within this process: as plain Python, and cut into blocks with frames.

The primitives are stand-ins: a checkpoint traces its call and gives a copy of its result, as the
journal does; a wait is answered from a table. What differs is the compiler's doing alone.
"""

from __future__ import annotations

import builtins
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru_compiler import Compilation, compile_flow

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import blocks, codec
from kitaru.wire.plan import Granularity

ANSWERS = {"ok": True, "no": False, "number": 7}


@dataclass
class Outcome:
    """What a run gave: its value or its error, and everything it did, in order."""

    result: Any
    trace: list[str]
    cuts: int = 0
    elided: int = 0

    def same(self) -> tuple[Any, list[str]]:
        return self.result, self.trace


@dataclass
class World:
    """A module of the user's with stand-in primitives, and the trace of one run."""

    source: str
    trace: list[str] = field(default_factory=list)

    def module(self, path: Path) -> types.ModuleType:
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        # A function: a bound method of the list would count as a module global that changes.
        module.trace = lambda event: self.trace.append(event)  # type: ignore[attr-defined]
        fake = self._kitaru()

        def importer(name: str, *rest: Any) -> Any:
            return fake if name == "kitaru" else builtins.__import__(name, *rest)

        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": importer}
        sys.modules[module.__name__] = module
        exec(compile(self.source, str(path), "exec"), module.__dict__)
        return module

    def _kitaru(self) -> types.ModuleType:
        fake = types.ModuleType("kitaru")

        def checkpoint(function: Callable[..., Any] | None = None, **_: Any) -> Any:
            if function is None:
                return checkpoint

            def call(*args: Any, **kwargs: Any) -> Any:
                self.trace.append(f"{function.__name__}{args!r}{sorted(kwargs.items())!r}")
                return codec.decode(codec.encode(function(*args, **kwargs)))

            call.__name__ = call.__qualname__ = function.__name__
            return call

        def wait(*, name: str = "wait", **_: Any) -> Any:
            self.trace.append(f"wait {name}")
            return ANSWERS.get(name)

        fake.checkpoint = checkpoint  # type: ignore[attr-defined]
        fake.flow = lambda function=None, **_: function or fake.flow  # type: ignore[attr-defined]
        fake.wait = wait  # type: ignore[attr-defined]
        fake.llm = checkpoint(lambda prompt, **_: f"<{prompt}>")  # type: ignore[attr-defined]
        return fake


def compile_text(source: str, granularity: Granularity = "checkpoint") -> tuple[Compilation, Path]:
    """Compile source text; return the compilation and where the file stood."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "program.py"
    path.write_text(source, encoding="utf-8")
    return compile_flow(path, granularity=granularity), path


def run_plain(source: str, path: Path, flow: str, inputs: dict[str, Any]) -> Outcome:
    """Run the flow's own function."""
    world = World(source)
    module = world.module(path)
    return Outcome(_outcome(lambda: getattr(module, flow)(**inputs)), world.trace)


def run_cut(compilation: Compilation, source: str, path: Path, inputs: dict[str, Any]) -> Outcome:
    """Run the blocks, with every variable through an encoded frame at every cut."""
    world = World(source)
    module = world.module(path)
    outcome = Outcome(None, world.trace)
    outcome.result = _outcome(lambda: _trampoline(compilation, module, inputs, outcome))
    return outcome


def _trampoline(
    compilation: Compilation, module: types.ModuleType, inputs: dict[str, Any], outcome: Outcome
) -> Any:
    plan = compilation.plan
    if plan.blocks[0].kind == "flow":
        return getattr(module, plan.flow)(**inputs)
    functions = blocks.load(plan, compilation.steps_py, module)
    entries = {step.entry for step in plan.steps}
    order = {block.name: block.index for block in plan.blocks}
    before = codec.globals_digest(module.__dict__)
    name, variables = plan.blocks[0].name, dict(inputs)
    while True:
        following, value = functions[name](variables)
        if following is None:
            return value
        assert order[following] > order[name], "control jumped back"
        assert following in plan.block(name).next
        variables = {key: value[key] for key in plan.block(following).live if key in value}
        if following in entries:
            try:
                if codec.globals_digest(module.__dict__) != before:
                    raise ValueNotEncodable("a module global changed")
                document = codec.encode_frame(variables, module.__dict__)
                variables = codec.decode_frame(document, module.__dict__)
                outcome.cuts += 1
            except ValueNotEncodable:
                outcome.elided += 1
        name = following


def _outcome(run: Callable[[], Any]) -> Any:
    try:
        return repr(run())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
