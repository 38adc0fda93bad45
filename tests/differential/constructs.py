"""Random programs of one construct each, compared with plain Python.

    nice -n 15 python -m tests.differential.constructs local_functions --seed 1 --count 3000
    python -m tests.differential.constructs all --count 50 --everywhere

Each program is a flow with one to three uses of the construct among other statements. It is run as
plain Python and cut at every block, every second also as it is cut, and every fourth as the
document of a target. With
`--everywhere`, it also runs here with the real engine, as a dry run of each target, and killed at
each record and resumed. A program that disagrees is printed. Findings are not computed, and the
prelude has only what the program mentions: both take most of the time otherwise.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kitaru_compiler import compile as compiling
from kitaru_compiler.frontend.travel import Travel, travel
from kitaru_compiler.ir.scope import bound_names
from kitaru_targets import registry

from tests.differential.documents import compile_for, run_document
from tests.differential.harness import compile_text, run_cut, run_plain, scratch
from tests.differential.idioms import IDIOMS, INTS, LISTS, STARTS, Idioms
from tests.differential.programs import NAMES, OTHER, PRELUDE, Calm, Traced
from tests.differential.programs import STARTS as TRACED_STARTS
from tests.differential.real import TRACE, run_dry, run_here
from tests.differential.submitting import futures

INPUTS: dict[str, Any] = {"a": 1, "xs": [3, 4]}
BESIDE = {"other.py": OTHER}
DOCUMENTS = ("kubeflow", "vertex")


class Draw:
    """Draws from the few strategies that the writers use, much faster than hypothesis."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, strategy: Any) -> Any:
        strategy = getattr(strategy, "wrapped_strategy", strategy)
        if hasattr(strategy, "elements"):
            return self._random.choice(list(strategy.elements))
        if hasattr(strategy, "start"):
            return self._random.randint(strategy.start, strategy.end)
        return self._random.random() < 0.5


class LocalFunctions(Idioms):
    """Writes functions and lambdas of the flow's body, and calls of them."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw)
        self.made: list[tuple[str, int]] = []
        # Whether all functions and calls have a form that can be inlined.
        self.calm = True

    def construct(self) -> list[str]:
        """Return definitions and calls, in one of four programs also of forms that must stay."""
        self.calm = self.one(True, True, True, False)
        lines = self.definition()
        for _ in range(self.one(1, 1, 2, 3)):
            lines += self.one([], [f"{self.one(*INTS)} = {self.int(1)}"])
            lines += self.use()
        return lines

    def definition(self) -> list[str]:
        """Return a function or lambda with up to two parameters, and what it may read."""
        f, least = self.fresh("f"), self.one(0, 1, 1, 1, 2)
        names = ["v", "w"][:least]
        more = self.one(
            [], [], ["by=2"], ["s='x'"], *([] if self.calm else (["*", "by=n"], ["*rest"]))
        )
        head = ", ".join([*names, *more])
        value = self.value(names)
        if self.one(True, False, False):
            lines = [f"{f} = lambda {head}: {value}"]
        else:
            typed = head.replace("v,", "v: int,") if self.one(True, False, False) else head
            lines = [f"def {f}({typed}):", *_indented(self.inside(names)), f"    return {value}"]
        self.made.append((f, least))
        return lines

    def inside(self, names: list[str]) -> list[str]:
        """Return the first statements of a function."""
        v = names[0] if names else "n"
        other = self.one(*INTS)
        found: list[list[str]] = [
            [],
            [],
            [f"if {v}:", f"    return {self.value(names)}"],
            [f"u = {self.value(names)}", "acc[0] += u"],
            [f"acc.append({v})"],
            [f"for u in (1, 2): acc[0] += cb(u, y={v})"],
            [f"for u in {self.one('xs', 'ys')}: {v} = cb({v}) + u"] if names else [],
            ["try:", f"    boom({v})", "except ValueError as u:", f"    s2 = cb(str(u), y={v})"],
            [f"{v} = {v} + 1", f"if not {v}: raise ValueError({v})"] if names else [],
            [f"while {v} > 4: {v} = cb({v}) - 1"] if names else [],
            [f"u = sorted({self.one('xs', 'acc')}, key=lambda q: (q, {other}))"],
            [f"u = [q + {other} for q in xs if cc(q)]"],
            [f"match {v}:", "    case 0 | 1:", "        return cb(1)", "    case _: pass"],
            ["trace('inside')"],
            [f"kitaru.wait(name={self.one(repr('ok'), repr('no'))})"],
        ]
        if not self.calm:
            found += [[f"nonlocal {other}", f"{other} = {v} + 1"]]
            found += [["def inner(q): return cb(q) + n", f"u = inner({v})"]]
        return list(self.one(*found))

    def value(self, names: list[str]) -> str:
        v, w = (*names, "n", "m")[:2]
        calls = [f"{name}({', '.join([v] * least)})" for name, least in self.made]
        return str(
            self.one(
                f"cb({v})",
                f"cb({v}, y={w})",
                f"cb({v}) + {self.one('k', 'len(xs)', 'acc[0]', 'LIMIT', 'd.get(0, 5)')}",
                f"cb({v}) + cb({w})",
                f"(cb({v}) if cc({w}) else {w})",
                f"len(f'{{cb({v})}}-{{{w}}}')",
                f"box.add({v})",
                f"Kit.lookup({v})",
                f"sum([cb(q, y={v}) for q in (1, 2)])",
                f"sum(cb.map([{v}, {w}]).result())",
                f"down({v} % 2)",
                f"{v} + 1",
                *calls,
                *calls,
            )
        )

    def use(self) -> list[str]:
        if not self.made:
            return []
        f, least = self.one(*self.made)
        given = [self.int(self.one(0, 0, 1)) for _ in range(least)]
        if not self.calm:
            given = self.one(given, given, [*given, "by=3"], given[1:], ["*xs"])
        call, name = f"{f}({', '.join(given)})", self.one(*INTS)
        i, ints = self.int(1), self.ints(1)
        found: list[list[str]] = [
            [f"{name} = {call}"],
            [f"{name} = {call}"],
            [f"{name} = {call} + {call}"],
            [f"{name} = {i} + {call}"],
            [f"{name} = {call} if {self.bool(1)} else {i}"],
            [f"{name} += {call}"],
            [call],
            [f"acc[{call} % 1] = {call}"],
            [f"if {call} > 2:", f"    {name} = {call}"],
            [f"if {self.bool(1)}:", f"    {name} = {call}", "else:", f"    k = {i}"],
            [f"if {self.bool(1)}: return {call}"],
            [f"for q in (1, 2): {name} = {call}"],
            [f"s = f'{{{call}}}'"],
            ["try:", f"    {name} = 1 // {i}", "except ZeroDivisionError:", f"    {name} = {call}"],
            ["for q in (1, 2):", f"    if {self.bool(1)}: break", f"    {name} = {call}"],
            [f"{name} = {f}({', '.join([call] * least)})"] if least else [call],
            [f"{name} = 4", f"{name} = {call}"],
            [f"match {call}:", f"    case 1 | 2: {name} = {i}", f"    case q: {name} = q"],
        ]
        if not self.calm:
            found += [
                [f"for q in {ints}: {name} = {call}"],
                [f"ys = [{call} for q in {ints}]"],
                ["try:", f"    {name} = {call}", "except ValueError:", f"    {name} = {i}"],
                [f"with ctx('f'): {name} = {call}"],
                [f"ys = list(map({f}, {ints}))"],
                [f"g{f} = ({call} for q in {ints})", f"{name} = {i}", f"ys = list(g{f})"],
                [f"g{f} = lambda: {call}", f"n = {i}", f"k = cb(g{f}())"],
                [f"k = sum({call} for q in {ints})"],
                [f"d[1] = {f}", f"{name} = d[1](2)", "d[1] = 3"],
            ]
        return list(self.one(*found))


class Attempts(Idioms):
    """Writes `try` statements with several calls."""

    def construct(self) -> list[str]:
        """Return a `try`, alone or in a loop."""
        loop = self.one("", "", "", "for q in (1, 2, 3):", "for q in xs:")
        self.loops += bool(loop)
        lines = [
            "try:",
            *_indented([line for _ in range(self.one(1, 2, 3, 4)) for line in self.part()]),
        ]
        for caught in self.one(*self.CAUGHT):
            lines += [f"except {caught}:", *_indented(self.handler("as error" in caught))]
        lines += self.one([], [], [], ["else:", f"    k = {self.call()}"], ["else: acc[0] += 1"])
        loops, self.loops = self.loops, 0
        lines += self.one(*[[]] * 6, ["finally:", f"    acc[0] += {self.one('1', self.call())}"])
        self.loops = loops - bool(loop)
        return [loop, *_indented(lines)] if loop else lines

    CAUGHT = (
        ("ValueError",),
        ("ValueError as error",),
        ("(ValueError, LookupError) as error",),
        ("Exception as error",),
        ("KeyError", "ZeroDivisionError as error"),
        ("ValueError as error", "Exception"),
    )

    def call(self) -> str:
        i = self.int(0)
        found = self.one(
            *[f"cb({i})"] * 3,
            f"cb({i}, y=n)",
            f"kit.weigh({i})",
            f"kit.both({i})",
            f"down({i} % 2)",
        )
        return str(found)

    def part(self) -> list[str]:
        """Return one statement of the body, or two, some of which raise."""
        name, i, call = self.one(*INTS), self.int(0), self.call()
        leave = self.one("break", "continue") if self.loops else f"return {i}"
        found = [
            *[[f"{name} = {call}"]] * 6,
            [f"{name} = {call} + {self.call()}"],
            [call, f"acc.append({i})"],
            [f"acc[0] += {call}"],
            [f"{name} = {call} // ({i} % 2)"],
            [f"{name} = 7 // ({self.one(*INTS)} % 3)"],
            [f"d['q'] = {call}", f"{name} = d[{i} % 4]"],
            [f"if {i} % 2: boom({i})"],
            [f"boom({call})"],
            [f"if cc({i}): {name} = {call}"],
            [f"if {i} > 2: {leave}"],
            [f"if {i} > 1:", f"    {name} = {call}", "else:", f"    raise ValueError({i})"],
            [f"for r in (1, 2): {name} = {call}"],
            [f"for r in ys: {name} = {call}"],
            ["try:", f"    {name} = {call}; boom(1)", "except ValueError: pass"],
            [f"kitaru.wait(name={self.one(repr('ok'), repr('no'))})"],
            [f"return {call}"] if not self.one(*range(5)) else ["s = s + 'r'"],
            [f"ys = [cb(r) for r in {self.one('xs', '(1, 2)')}]"],
            ["ys = cb.map(xs).result()"],
            [f"{name} = (u := {call}) + u"],
            [f"del {name}", f"{name} = {call}"],
            [f"f = lambda: {name}", f"{name} = {call}"],
        ]
        return list(self.one(*found))

    def handler(self, named: bool) -> list[str]:
        name, i = self.one(*INTS), self.int(0)
        leave = self.one("break", "continue") if self.loops else f"return {i}"
        found = [
            ["pass"],
            [f"{name} = {i}"],
            ["trace('caught')", "raise"],
            ["raise"],
            [leave],
            [f"return {self.call()}"],
            [f"{name} = {self.call()}"],
            [f"{name} = {self.call()}", "raise RuntimeError('again')"],
            [f"if {i} % 2: raise", f"{name} = 5"],
            [f"if {i} % 2: return 3", "acc[0] += 2"],
        ]
        if named:
            found += [
                ["s = str(error)"],
                ["trace(repr(error))", "raise RuntimeError(s) from error"],
                ["s = type(error).__name__", f"{name} = {self.call()}"],
                [f"{name} = cb(str(error))", leave],
                ["acc.append(len(error.args))", "raise"],
            ]
        return list(self.one(*found))


CHOICES = """
GOOD = {"cb": cb, "cc": cc, "boom": boom}
ONE = {1: cb}
LOOKS = {"cb": cb, "look": Kit.lookup}
CHANGED = {"cb": cb, "cc": cc}
MIXED = {"cb": cb, "down": down, "plain": len}
MADE = {}
MADE["cb"] = cb
DOUBLE = {"cb": boom, "cb": cb, "cc": cb}

def change():
    CHANGED["cb"] = cc
    return 1

def through(key, x):
    tool = GOOD.get(key, cc)
    return tool(x)
"""


class Choices(Idioms):
    """Writes calls through tables of checkpoints."""

    def construct(self) -> list[str]:
        """Return one or two calls through a table, and what may change it."""
        lines: list[str] = []
        for _ in range(self.one(1, 1, 2)):
            lines += self.one([], [f"{self.one(*INTS)} = {self.int(1)}"], ["n = change()"])
            lines += self.use()
        return lines

    def use(self) -> list[str]:
        table = self.one(
            "GOOD", "GOOD", "GOOD", "GOOD", "ONE", "LOOKS", "CHANGED", "MIXED", "MADE", "DOUBLE"
        )
        literal = self.one("'cb'", "'cb'", "'cc'", "'boom'", "'none'", "1", "n", "[]")
        key = self.one(literal, "key", "key", "'c' + 'b'", f"sorted({table})[0]")
        entry = self.one(
            f"{table}[{key}]", f"{table}[{key}]", f"{table}.get({key}, cb)", f"{table}.get({key})"
        )
        given = self.one(*[self.int(1)] * 4, f"{self.int(0)}, y=2", "*xs", f"x={self.int(0)}")
        name, tool, i = self.one(*INTS), self.fresh("tool"), self.int(1)
        through = f"{tool}({given})"
        found = [
            [f"key = {self.one(literal, repr('cb'))}", f"{name} = {entry}({given})"],
            [f"key = 'cc' if {self.bool(1)} else 'cb'", f"{name} = {entry}({given})"],
            *[["key = 'cb'", f"{tool} = {entry}", f"{name} = {through}"]] * 5,
            ["key = 'cc'", f"{tool} = {entry}", f"{name} = {i}", f"{name} = {through} + {through}"],
            [
                "key = 'boom'",
                f"{tool} = {entry}",
                "try:",
                f"    {name} = {through}",
                "except ValueError as error:",
                "    s = str(error)",
            ],
            [
                "try:",
                "    key = 'boom'",
                f"    {name} = {entry}({given})",
                "except Exception as error:",
                f"    {name} = cb(str(error))",
            ],
            ["for key in ('cb', 'cc'):", f"    acc[0] += {entry}({given})"],
            [f"for key in xs: acc[0] += {entry}({given})"],
            [
                "for key in ('cb', 'cc', 'none'):",
                f"    if key not in {table}: continue",
                f"    {tool} = {table}[key]",
                f"    d[key] = {through}",
            ],
            ["key = 'cb'", f"d[1] = {entry}({given})", "s = f'{d[1]}'"],
            ["key = 'cb'", f"if {self.bool(1)}: return {entry}({given})"],
            [
                "key = 'cb'",
                f"{tool} = {entry}",
                f"if {self.bool(1)}: {tool} = cc",
                f"{name} = {through}",
            ],
            ["key = 'cb'", f"if {self.bool(1)}: {tool} = {entry}", f"{name} = {through}"],
            [
                "key = 'cb'",
                f"match {entry}({given}):",
                f"    case 1 | 2: {name} = {i}",
                f"    case _: {name} = 3",
            ],
            ["key = 'cb'", f"ys = [{entry}(v) for v in {self.ints(1)}]"],
            ["key = 'cb'", f"with ctx('t'): {name} = {entry}({given})"],
            [f"{name} = through({literal}, {i})"],
            ["key = 'cb'", f"{name} = {entry}({given}) if {self.bool(1)} else {i}"],
            ["key = 'cb'", f"(n, m) = {entry}({given}), {i}"],
            ["key = (k := 'cb')", f"{name} = {entry}((k := {i}), y=k)", "k = 1"],
        ]
        return list(self.one(*found))


@dataclass
class Kind:
    """How programs of one construct are written."""

    writer: Callable[[Any], Any]
    construct: Callable[[Any], list[str]]
    traced: bool = False
    more: str = ""


def _methods(writer: Idioms) -> list[str]:
    """Return calls of methods of objects that one statement binds."""
    i, name = writer.int, writer.one(*INTS)
    one, two = writer.fresh("kit"), writer.fresh("kit")
    made = writer.one(
        [f"{one}, {two} = Kit({i(1)}), Kit(2)"],
        [f"{one}, {two} = Kit(), Box()"],
        [f"{one} = Kit({i(1)})", f"{two}: Kit = Kit(n=3)"],
        [f"({one}, {two}) = (Kit({i(1)}), Kit({i(1)}))"],
        [f"[{one}, {two}] = Kit(3), Kit({i(1)})"],
    )
    uses = [
        [f"{name} = {one}.both({i(1)})"],
        [f"{name} = {one}.weigh({i(1)}) + {one}.lookup({i(1)})"],
        [f"{two} = Kit(4)", f"{name} = {two}.weigh(1)"],
        [f"{one}.n = {i(1)}", f"{name} = {one}.weigh({i(1)})"],
        [f"{name} = {two}.both({i(1)}) if hasattr({two}, 'both') else {two}.add({i(1)})"],
        [f"ys = {one}.weigh.map({writer.ints(1)}).result()"],
        [f"for q in (1, 2): {name} = {one}.both(q)"],
        [f"for {one} in [Kit(5), {one}]: {name} = {one}.weigh(1)"],
        [f"acc[0] += {one}.both({one}.n)"],
    ]
    lines = list(made)
    for _ in range(writer.one(1, 2, 3)):
        lines += writer.one(*uses)
    return lines


KINDS = {
    "gathers": Kind(Traced, futures, traced=True),
    "fallbacks": Kind(Calm, lambda writer: writer.caught(1), traced=True),
    "idiomatic_fallbacks": Kind(Idioms, lambda writer: writer.attempt(1)),
    "gathers_with_try": Kind(Idioms, Idioms.futures),
    "methods": Kind(Idioms, _methods),
    "attempts": Kind(Attempts, Attempts.construct),
    "choices": Kind(Choices, Choices.construct, more=CHOICES),
    "local_functions": Kind(LocalFunctions, LocalFunctions.construct),
}


def program(kind: str, seed: int, whole: bool = False) -> str:
    """Return the source of one program; empty if what was written is not Python.

    Its prelude has only what the program mentions, unless it must be `whole`.
    """
    chosen = KINDS[kind]
    writer = chosen.writer(Draw(seed))
    if chosen.traced:
        body = [f"{n} = {v}" for n, v in (*TRACED_STARTS, ("v", "0"), ("xs", "[1, 2]"))]
        ends = [f"trace(repr({name}))" for name in (*NAMES, "v")]
        prelude = PRELUDE
    else:
        body = [*STARTS, "xs = [*xs]"]
        ends = [f"return {', '.join([*INTS, *LISTS, 's', 'acc', 'd'])}"]
        prelude = PRELUDE + IDIOMS + chosen.more
    for _ in range(writer.one(1, 2, 3)):
        body += chosen.construct(writer)
        if writer.one(True, False, False):
            body += writer.statement(1)
    flow = "\n".join(["@flow", "def main(a=1, xs=()):", *_indented([*body, *ends])]) + "\n"
    try:
        compile(flow, "program", "exec")
    except SyntaxError:
        return ""
    return f"{prelude if whole else _needed(prelude, flow)}\n{flow}"


@cache
def _parts(prelude: str) -> list[tuple[frozenset[str], frozenset[str], str]]:
    """Return the statements of a prelude: the names that each binds and mentions, and its text."""
    parts = []
    lines = prelude.splitlines()
    for stmt in ast.parse(prelude).body:
        first = min([stmt.lineno, *(d.lineno for d in getattr(stmt, "decorator_list", []))])
        names = {node.id for node in ast.walk(stmt) if isinstance(node, ast.Name)}
        text = "\n".join(lines[first - 1 : stmt.end_lineno])
        parts.append((frozenset(bound_names(stmt)), frozenset(names), text))
    return parts


def _needed(prelude: str, flow: str) -> str:
    """Return the part of a prelude that a flow mentions, directly or through other parts."""
    names = {node.id for node in ast.walk(ast.parse(flow)) if isinstance(node, ast.Name)}
    before = -1
    while before < len(names):
        before = len(names)
        for bound, mentioned, _ in _parts(prelude):
            if bound & names:
                names |= mentioned
    return "\n".join(text for bound, _, text in _parts(prelude) if bound & names)


@dataclass
class Count:
    """The outcome of a run: programs, those that raised, those with a region, and failures."""

    programs: int = 0
    raised: int = 0
    with_regions: int = 0
    everywhere: int = 0
    failures: list[str] = field(default_factory=list)


def compare(kind: str, seed: int, count: Count, everywhere: bool = False) -> None:
    """Run one program in every way, and record in `count` what differs."""
    source = program(kind, seed)
    if not source:
        return
    count.programs += 1
    try:
        beside = BESIDE if "import other" in source else {}
        compilation, path = compile_text(source, "checkpoint", beside)
        plain = run_plain(compilation, path, INPUTS)
        count.raised += bool(plain.raised_at)
        count.with_regions += any(block.kind == "region" for block in compilation.plan.blocks)
        for at_every_block in (True, False)[: 1 + seed % 2]:
            cut = run_cut(compilation, path, INPUTS, everywhere=at_every_block)
            assert cut.same() == plain.same(), f"{plain.same()}\n{cut.same()}"
        if seed % 4 == 0:
            target = DOCUMENTS[seed // 4 % len(DOCUMENTS)]
            document = run_document(compile_for(path, target, "checkpoint"), path, INPUTS, target)
            assert document.same() == plain.same(), f"{plain.same()}\n{target} {document.same()}"
        if everywhere:
            count.everywhere += 1
            _everywhere(program(kind, seed, whole=True))
    except Exception as error:
        flow = source[source.index("@flow") :]
        count.failures.append(f"{kind} seed {seed}\n{flow}\n{type(error).__name__}: {error}")


def _everywhere(source: str) -> None:
    """Run a program here and as a dry run of each target, then killed at each record."""
    from tests.differential.test_killed_runs import check_killed
    from tests.differential.test_real_runs import answer

    folder = Path(tempfile.mkdtemp(dir=scratch()))
    path = folder / "program.py"
    path.write_text(source + TRACE, encoding="utf-8")
    (folder / "other.py").write_text(OTHER + TRACE, encoding="utf-8")
    here = run_here(path, "main", INPUTS, answer, folder)
    with patch.object(compiling, "travel", travel):
        for target in registry.names():
            dry = run_dry(path, "main", INPUTS, answer, folder, target)
            assert dry == here, f"{here}\n{target} {dry}"
    check_killed(Path(tempfile.mkdtemp(dir=scratch())), source)


@contextmanager
def only_cuts() -> Iterator[None]:
    """Leave out what a compilation does beside cutting."""
    with (
        patch.dict(os.environ, {"KITARU_COMPILE_CACHE": "false"}),
        patch.object(compiling, "findings_of", lambda *_: []),
        patch.object(compiling, "travel", lambda *_: Travel()),
    ):
        yield


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def main(arguments: list[str]) -> int:
    """Run the programs of one construct or of all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.constructs")
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="the number of seeds")
    parser.add_argument("--seconds", type=float, default=math.inf, help="CPU time per construct")
    parser.add_argument("--everywhere", action="store_true")
    given = parser.parse_args(arguments)
    failed = False
    for kind in KINDS if given.kind == "all" else [given.kind]:
        count, end = Count(), time.process_time() + given.seconds
        with only_cuts():
            for seed in range(given.seed, given.seed + given.count):
                compare(kind, seed, count, given.everywhere)
                if len(count.failures) > 5 or time.process_time() > end:
                    break
        failed |= bool(count.failures)
        for failure in count.failures:
            sys.stdout.write(f"{failure}\n")
        sys.stdout.write(
            f"{kind}: seeds {given.seed} to {seed}, {count.programs} programs, {count.raised} "
            f"raised, {count.with_regions} with a region, {count.everywhere} everywhere, "
            f"{len(count.failures)} disagreements\n"
        )
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
