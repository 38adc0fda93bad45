"""Flows generated from a seed, in several versions of their code, and as plain Python."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.config import setting
from kitaru.runtime.engine import declared_changes
from kitaru.runtime.llm.offline import offline_text
from kitaru.wire.ids import Counters

MODULE = "simulated_flow"
# The versions of the code. `renamed` declares its rename, `undeclared` does not.
CODES = ("first", "edited", "renamed", "undeclared")
# Executions that started with the version on the left can run with each version on the right.
COMPATIBLE = {
    "first": ("first", "edited", "renamed"),
    "edited": ("first", "edited", "renamed"),
    "renamed": ("renamed",),
    "undeclared": ("undeclared",),
}

_HEAD = """
import time

import kitaru
from kitaru import checkpoint, flow, memory, wait

{declarations}

@checkpoint
def add(a: int, b: int) -> int:
    return {helper}(a, b)


def {helper}(a: int, b: int) -> int:
    return a + b


@checkpoint(retries=2, retry_delay=4, backoff=3)
def {shaky}(a: int) -> int:
    return a * 2 + 1


@checkpoint(retries=1, timeout=5)
def slow(a: int) -> int:
    time.sleep(0.25)
    return a - 1


@checkpoint
def wide(a: int) -> dict:
    return {{"n": a, "text": "w" * 400}}


@checkpoint
def breaks(a: int) -> int:
    raise ValueError(f"no {{a}}")


@checkpoint(cache=False)
def saves(a: int) -> int:
    kitaru.save(f"art-{{a}}", [a, "s" * 300])
    kitaru.log(saved=a)
    return a


@checkpoint(cache=False)
def loads(me: str, a: int) -> int:
    return kitaru.load(me, f"art-{{a}}")[0] + 1


def part(v: int) -> int:
    v = add(v, 3)
    return {shaky}(v)


@flow(retries=1, max_parallel={parallel}, cache={cache})
def simulated(me: str, n: int) -> int:
    v = n
{body}
    return v
"""


@dataclass(frozen=True)
class Program:
    """A flow: its source by version of the code; `waits` are the names of its waits."""

    seed: int
    sources: Mapping[str, str]
    waits: tuple[str, ...]

    @property
    def loads(self) -> bool:
        """Whether it loads artifacts of the execution that its inputs name."""
        return "loads(me, s" in self.sources["first"]

    @classmethod
    def drawn(cls, seed: int) -> Program:
        chance = random.Random(f"{seed} program")
        lines: list[str] = []
        waits: list[str] = []
        parts = [*_PARTS] if chance.random() < 0.8 else ["fan", "calls", "wait"]
        for number in range(chance.randrange(2, 8)):
            lines += _PARTS[chance.choice(parts)](chance, number, waits)
        if chance.random() < 0.2:
            again = chance.choice([_calls, _branches, _map, _caught])(chance, 9, waits)
            lines += ["for turn in range(3):", *(f"    {line}" for line in again)]
        body = "\n".join(f"    {line}" for line in lines)
        parallel, cache = chance.choice([1, 2, 8]), chance.random() < 0.3
        sources = {}
        for code in CODES:
            later = code in ("renamed", "undeclared")
            sources[code] = _HEAD.format(
                declarations='kitaru.renamed("shaky", checkpoint="steady")'
                if code == "renamed"
                else "",
                helper="plus" if code == "edited" else "sum_of",
                shaky="steady" if later else "shaky",
                parallel=parallel,
                cache=cache,
                body=body.replace("shaky", "steady") if later else body,
            )
        return cls(seed, sources, tuple(waits))


Part = Callable[[random.Random, int, list[str]], list[str]]


def _calls(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    each = ["v = add(v, 1)", "v = shaky(v)", "v = wide(v)['n']", "v = slow(v)"]
    return [chance.choice(each) for _ in range(chance.randrange(1, 4))]


def _fan(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    width = chance.randrange(2, 6)
    call = chance.choice(["add.submit(v, i)", "shaky.submit(v + i)", "wide.submit(v + i)"])
    value = "f.result()['n']" if call.startswith("wide") else "f.result()"
    between = chance.choice([[], ["v = add(v, 7)"], ["v = shaky(v)"]])
    return [
        f"fs{n} = [{call} for i in range({width})]",
        *between,
        f"v += sum({value} for f in fs{n})",
    ]


def _map(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return [f"v = sum(shaky.map([v, v + 1, v + {n}]).result())"]


def _caught(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    call = chance.choice(["breaks(v)", "breaks.submit(v).result()"])
    return [
        "try:",
        f"    v = {call}",
        "except ValueError as error:",
        "    v = add(len(str(error)), v)",
    ]


def _wait(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    name = f"ask_{n}"
    waits.append(name)
    timeout = chance.choice(["", ", timeout=20"])
    lines = [f'if wait(name="{name}", schema=int{timeout}) % 2:', "    v = add(v, 100)"]
    return [*lines, *chance.choice([[], ["else:", "    v = shaky(v)"]])]


def _remembers(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    own = 'scope="execution"'
    return [
        f'v += memory.set("k{n % 2}", v, {own})',
        *chance.choice([[], [f'memory.delete("k{n % 2}", {own})']]),
        f'v += memory.get("k{n % 2}", 0, {own})',
        f"v += len(memory.list({own}))",
    ]


def _shares(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    shared = 'scope="namespace:all"'
    return [f'v += memory.get("count", 0, {shared})', f'v += memory.set("count", v % 7, {shared})']


def _asks_a_model(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return [f'v += len(kitaru.llm(f"question {n} about {{v % 10}}"))']


def _saves(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return [f"s{n} = saves(v * 10 + {n})", "v = add(v, 2)", f"v = loads(me, s{n})"]


def _prints(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return ['print(f"so far {v}")', f"kitaru.log(at_{n}=v)"]


def _nests(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return ["v = part(v)"]


def _branches(chance: random.Random, n: int, waits: list[str]) -> list[str]:
    return ["if v % 3:", "    v = shaky(v)", "else:", "    v = add(v, 5)"]


_PARTS: dict[str, Part] = {
    "calls": _calls,
    "fan": _fan,
    "map": _map,
    "caught": _caught,
    "wait": _wait,
    "remembers": _remembers,
    "shares": _shares,
    "model": _asks_a_model,
    "saves": _saves,
    "prints": _prints,
    "nests": _nests,
    "branches": _branches,
}


# As a process imports it


def load(source: str) -> tuple[types.ModuleType, dict[Any, None]]:
    """Return the module of a source, and the changes that it declares."""
    # The path depends on the content alone, because it is recorded.
    folder = Path(tempfile.gettempdir(), "kitaru-simulation")
    folder /= hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    file = folder / f"{MODULE}.py"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        draft = Path(tempfile.mkdtemp(dir=folder), file.name)
        draft.write_text(source, encoding="utf-8")
        draft.replace(file)
    spec = importlib.util.spec_from_file_location(MODULE, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(MODULE)
    sys.modules[MODULE] = module
    known, declared_changes._declared = declared_changes._declared, {}
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        return module, declared_changes._declared
    finally:
        sys.dont_write_bytecode = writes
        declared_changes._declared = known
        if before is not None:
            sys.modules[MODULE] = before


# As plain Python


@dataclass
class Plain:
    """An execution in plain Python.

    `answers` are the answers by wait, `shared` the results of operations on a shared memory by
    invocation, `results` the results that a replay injects by invocation.
    """

    answers: Mapping[str, Any]
    shared: Mapping[str, Any]
    results: Mapping[str, Any] = field(default_factory=dict)
    _counters: Counters = field(default_factory=Counters)
    _remembered: dict[str, list[Any]] = field(default_factory=dict)

    def run(self, source: str, me: str, n: int) -> Any:
        """Return the flow's result; raise its exception."""
        namespace: dict[str, Any] = {"__name__": "plain", "print": lambda *args: None}
        fake = self._kitaru()
        before = {name: sys.modules.get(name) for name in ("kitaru", "time")}
        sys.modules["kitaru"] = fake
        sys.modules["time"] = types.ModuleType("time")
        sys.modules["time"].sleep = lambda seconds: None  # type: ignore[attr-defined]
        try:
            exec(compile(source, "plain.py", "exec"), namespace)
        finally:
            for name, module in before.items():
                if module is not None:
                    sys.modules[name] = module
        return namespace["simulated"](me, n)

    def _kitaru(self) -> types.ModuleType:
        fake = types.ModuleType("kitaru")
        members: dict[str, Any] = {
            "checkpoint": self._checkpoint,
            "flow": lambda **options: lambda function: function,
            "wait": lambda name, **options: self._given(name, lambda: self.answers[name]),
            "llm": lambda prompt: self._given("llm", lambda: _model_says(prompt)),
            "memory": types.SimpleNamespace(
                get=self._get, set=self._set, delete=self._delete, list=self._list
            ),
            "save": lambda name, value: None,
            # An artifact is named after its contents: a replay may not run its checkpoint.
            "load": lambda me, name: [int(name.removeprefix("art-"))],
            "log": lambda **metadata: None,
            "renamed": lambda *args, **names: None,
        }
        vars(fake).update(members)
        return fake

    def _given(self, name: str, work: Callable[[], Any]) -> Any:
        id = self._counters.take(name)
        return self.results[id] if id in self.results else work()

    def _checkpoint(self, function: Any = None, **options: Any) -> Any:
        if function is None:
            return self._checkpoint

        def call(*args: Any) -> Any:
            return self._given(function.__name__, lambda: function(*args))

        def submit(*args: Any) -> Any:
            try:
                value = call(*args)
            except Exception as error:
                return types.SimpleNamespace(result=lambda error=error: _raise(error))
            return types.SimpleNamespace(result=lambda: value)

        def map(items: list[Any]) -> Any:
            return (
                types.SimpleNamespace(result=lambda: [f.result() for f in futures])
                if (futures := [submit(item) for item in items])
                else None
            )

        vars(call).update(submit=submit, map=map)
        return call

    def _remember(self, operation: str, scope: str, work: Callable[[], Any]) -> Any:
        id = self._counters.take(f"memory_{operation}")
        return self.shared[id] if scope != "execution" else work()

    def _get(self, key: str, default: Any, scope: str) -> Any:
        found = self._remember("get", scope, lambda: (self._remembered.get(key) or [None])[-1])
        return default if found is None else found

    def _set(self, key: str, value: Any, scope: str) -> Any:
        def write() -> int:
            self._remembered.setdefault(key, []).append(value)
            return len(self._remembered[key])

        return self._remember("set", scope, write)

    def _delete(self, key: str, scope: str) -> Any:
        return self._remember("delete", scope, lambda: self._remembered[key].append(None))

    def _list(self, scope: str) -> Any:
        def keys() -> list[str]:
            return [key for key, values in self._remembered.items() if values[-1] is not None]

        return self._remember("list", scope, keys)


def _raise(error: Exception) -> Any:
    raise error


def _model_says(prompt: str) -> str:
    return offline_text(prompt, str(setting("default_model").value), None)
