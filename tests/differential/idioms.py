"""Makes random flows in the idioms of Python: lazy builtins, closures, context managers, chains.

`programs.py` mixes expressions of any type, whose operands trace and whose names collide; most of
its programs soon raise. These are typed instead: an expression of integers is one wherever it
stands, so that a program runs to its end, through every construct that it is made of. Both share
the checkpoints, so that the tests of killed runs, replays and documents take either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.differential.programs import PRELUDE, positions

IDIOMS = """
import functools
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import reduce

LIMIT = 2
SIZES = (1, 2)

class Chat:
    def __init__(self, n=0): self.n = n
    def say(self, x):
        self.n += cb(x)
        return self
    def both(self, x): return self.say(x).say(self.n)
    @property
    def half(self): return cb(self.n) // 2
    @classmethod
    def of(cls, x): return cls(cb(x))
    @staticmethod
    def score(x): return cb(x) + 1

@dataclass
class Box:
    kept: list = field(default_factory=list)
    def add(self, x):
        self.kept.append(cb(x))
        return len(self.kept)
    def total(self):
        out = 0
        for v in self.kept:
            out += v
        return cb(out)
    def __enter__(self):
        trace("open")
        return self
    def __exit__(self, *error):
        trace(f"close {error[0] is None}")
        return error[0] is KeyError

class Kit:
    def __init__(self, n=1): self.n = n
    @staticmethod
    @checkpoint
    def lookup(x=0): return len(str(x))
    @checkpoint
    def weigh(self, x): return self.n + x % 3
    def both(self, x): return self.weigh(self.lookup(x))

@contextmanager
def ctx(name):
    trace(f"enter {name}")
    try:
        yield len(str(name))
    finally:
        trace(f"leave {name}")

def deco(function):
    @functools.wraps(function)
    def wrapped(*args):
        trace("wrapped")
        return function(*args)
    return wrapped

@deco
def decorated(x): return cb(x)

def gen(x):
    for v in (x, 2):
        yield cb(v)

def many(*args, **more): return cb(len(args), y=sum(more.values()))

def curry(x):
    def inner(y): return cb(x, y=y)
    return inner

def down(x): return cb(x) if x < 1 else down(0) + 1

def twice(function, x): return function(function(x) % 3)

TABLE = {"cb": cb, "many": many, "down": lambda x: down(x % 2)}
"""

INTS = ("n", "m", "k")
LISTS = ("xs", "ys")


@st.composite
def idiomatic_programs(draw: st.DrawFn) -> str:
    """Return the source of a module with one flow, `main(a, xs)`, that mostly runs to its end."""
    writer = Idioms(draw)
    lines: list[str] = [IDIOMS]
    for number in range(draw(st.integers(0, 2))):
        lines += writer.helper(f"h{number}")
    body = [*STARTS, "xs = [*xs]", *writer.block(2, draw(st.integers(2, 6)))]
    body.append(f"return {', '.join([*INTS, *LISTS, 's', 'acc', 'd'])}")
    lines += ["@flow", "def main(a=1, xs=()):", *_indented(body)]
    return PRELUDE + "\n".join(lines) + "\n"


STARTS = (
    "n, m = a, 2",
    "k = 0",
    "ys = [1]",
    "s = 's'",
    "acc = [0]",
    "d = {0: 1}",
    "box = Box()",
    "kit, tools = Kit(a), Kit(2)",
)


class Idioms:
    """Writes statements and typed expressions; `ints` are further names of integers in scope."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.loops = 0
        self.numbers = 0
        # Within what a comprehension may run over, where Python allows no walrus.
        self.iterables = 0
        self.helpers: list[str] = []
        self.inner: list[str] = []

    def one(self, *options: Any) -> Any:
        return options[self.draw(positions(len(options)))]

    def form(self, *options: Callable[[], str]) -> str:
        return str(self.one(*options)())

    def fresh(self, hint: str) -> str:
        self.numbers += 1
        return f"{hint}{self.numbers}"

    # Expressions: `depth` bounds how far they nest.

    def int(self, depth: int = 2) -> str:
        if depth <= 0:
            return str(self.one("0", "1", "3", "LIMIT", *INTS, "len(xs)", "acc[0]", "d.get(0, 5)"))
        i, b = lambda: self.int(depth - 1), lambda: self.bool(depth - 1)
        ints, name = lambda: self.ints(depth - 1), lambda: self.one(*INTS)
        each = self.one("cb(v)", "cb(v, y=k)", "v", "down(v % 2)", "Chat.score(v)")
        return self.form(
            lambda: f"cb({i()})",
            lambda: f"cb({i()}, y={i()})",
            lambda: f"cb({self.text(depth - 1)})",
            lambda: f"({i()} + {i()})",
            lambda: f"sum({each} for v in {ints()})",
            lambda: f"sum([{each} for v in {ints()}])",
            lambda: f"max(({each} for v in {ints()}), default={i()})",
            lambda: f"next(({each} for v in {ints()} if cc(v)), {i()})",
            lambda: f"next(iter([{each} for v in {ints()}]), {i()})",
            lambda: i() if self.iterables else f"({name()} := {i()})",
            lambda: f"({i()} if {b()} else {i()})",
            lambda: f"({b()} and {i()} or {i()})",
            lambda: f"Chat().say({i()}).say({i()}).n",
            lambda: f"Chat.of({i()}).both({i()}).half",
            lambda: f"Chat.score({i()})",
            lambda: f"box.add({i()})",
            lambda: "box.total()",
            lambda: f"Kit.lookup({i()})",
            lambda: f"kit.weigh({self.one('kit.lookup', 'Kit.lookup', '')}({i()}))",
            lambda: f"{self.one('kit', 'tools')}.both({i()})",
            lambda: f"sum(Kit.lookup.map({ints()}).result())",
            lambda: f"many(*{ints()}, {i()}, k={i()}, **{{'j': {i()}}})",
            lambda: f"decorated({i()})",
            lambda: f"curry({i()})({i()})",
            lambda: f"twice({self.one('cb', 'down', 'decorated', 'lambda v: cb(v) + n')}, 1)",
            lambda: f"(lambda v: cb(v) + {i()})({i()})",
            lambda: f"TABLE[{self.one(*map(repr, ('cb', 'many', 'down')))}]({i()})",
            lambda: f"reduce(lambda p, q: p + cb(q), {ints()}, {i()})",
            lambda: f"len({self.text(depth - 1)})",
            lambda: f"cb.submit({i()}).result()",
            lambda: f"sum(cb.map({ints()}).result())",
            lambda: f"dict(k={i()}, j={i()})['k']",
            lambda: f"{{'k': {i()}, **{{'j': {i()}}}}}.pop('j')",
            lambda: f"[{i()}, {i()}][{i()} % 2]",
            lambda: f"[{i()}, {i()}, {i()}][:{i()} % 2 + 1][0]",
            lambda: f"abs(-{i()})",
            lambda: f"{self.one(*self.helpers, 'down')}({i()} % 2)",
            lambda: f"{self.one(*self.inner, 'cb')}({i()})",
        )

    def bool(self, depth: int = 2) -> str:
        if depth <= 0:
            return str(self.one("True", "n > 1", "not xs", "k", "m == 2"))
        i, b, ints = (
            lambda: self.int(depth - 1),
            lambda: self.bool(depth - 1),
            lambda: self.ints(depth - 1),
        )
        return self.form(
            lambda: f"cc({i()})",
            lambda: f"(not {b()})",
            lambda: f"({b()} {self.one('and', 'or')} {b()})",
            lambda: f"({i()} < {i()} <= {i()})",
            lambda: f"({i()} in {ints()})",
            lambda: f"any(cc(v) for v in {ints()})",
            lambda: f"all(cb(v) > 1 for v in {ints()})",
            lambda: f"any([cc(v) for v in {ints()}])",
            lambda: f"any(map(cc, {ints()}))",
            lambda: f"any(cc(w) for v in {ints()} if cc(v) for w in (v, 1))",
            lambda: f"({b()} if {b()} else {b()})",
            lambda: b() if self.iterables else f"(({self.one(*INTS)} := {i()}) > 1)",
            lambda: b() if self.iterables else f"any((m := cb(v)) > 2 for v in {ints()})",
            lambda: f"bool(Chat({i()}).say({i()}).n)",
            lambda: f"({self.text(depth - 1)} != s)",
            lambda: f"bool(kitaru.wait(name={self.one(repr('ok'), repr('no'))}))",
        )

    def ints(self, depth: int = 2) -> str:
        """Return a list of at most a few integers."""
        if depth <= 0:
            return str(self.one("(1, 2)", "[3]", "()", "SIZES", "xs[:2]", "ys[:2]", "range(LIMIT)"))
        i, ints = lambda: self.int(depth - 1), lambda: self.ints(depth - 1)
        self.iterables += 1
        found = self.form(
            lambda: f"[{i()}, {i()}]",
            lambda: f"[cb(v) for v in {ints()}]",
            lambda: f"[v + {i()} for v in {ints()} if cc(v)]",
            lambda: f"[p + q for p in {ints()} for q in (1, {i()})][:3]",
            lambda: f"list(map(cb, {ints()}))",
            lambda: f"[*filter(cc, {ints()})]",
            lambda: f"sorted({ints()}, key=lambda v: (cb(v), -v))",
            lambda: f"list({{v: cb(v) for v in {ints()}}}.values())",
            lambda: f"sorted({{cb(v) for v in {ints()}}})",
            lambda: f"[*{ints()}, {i()}][:3]",
            lambda: f"list(gen({i()}))",
            lambda: f"[v for v in gen({i()}) if v]",
            lambda: f"list(cb.map({ints()}).result())",
            lambda: f"[f.result() for f in [cb.submit(v) for v in {ints()}]]",
            lambda: f"[p * q for p, q in zip({ints()}, {ints()})]",
            lambda: f"[p + v for p, v in enumerate({ints()}, {i()})]",
            lambda: f"({ints()} if {self.bool(depth - 1)} else [1])",
        )
        self.iterables -= 1
        return found

    def text(self, depth: int = 2) -> str:
        if depth <= 0:
            return str(self.one("s", "'x'", "str(n)"))
        i, ints = lambda: self.int(depth - 1), lambda: self.ints(depth - 1)
        width = self.one("cb(1)", "len(s)", "Chat.score(1)", "k")
        return self.form(
            lambda: f"str({i()})",
            lambda: f"','.join(str(cb(v)) for v in {ints()})",
            lambda: f"','.join([str(v) for v in {ints()}])",
            # Python before 3.12 takes no quotes inside.
            lambda: f'f"{{n:>{{{width}}}}}|{{cb(m)!r}}"',
            lambda: 'f"{cb(n):0{cb(1) + 1}d}"',
            lambda: f"'%s-%s' % ({i()}, {i()})",
            lambda: f"'{{}}:{{}}'.format({i()}, {self.text(depth - 1)})",
            lambda: f"ca({i()})[0].upper()",
            lambda: f"({self.text(depth - 1)} + {self.text(depth - 1)})[:9]",
        )

    # Statements.

    def block(self, depth: int, length: int) -> list[str]:
        lines: list[str] = []
        known = len(self.inner)
        for _ in range(length):
            lines += self.statement(depth)
        del self.inner[known:]
        return lines

    def body(self, depth: int) -> list[str]:
        return _indented(self.block(depth - 1, self.draw(st.integers(1, 3))))

    def looped(self, depth: int) -> list[str]:
        self.loops += 1
        lines = self.body(depth)
        self.loops -= 1
        return lines

    def helper(self, name: str) -> list[str]:
        body = ["a = n", "xs = [n]", *STARTS, *self.block(1, self.draw(st.integers(1, 3)))]
        head = self.one(
            f"def {name}(n):", f"def {name}(n, /, *rest, by=2):", f"def {name}(n, by=2):"
        )
        lines = [head, *_indented([*body, f"return {self.int()}"])]
        if not self.draw(st.integers(0, 4)):
            lines.insert(0, "@deco")
        self.helpers += [name, name]
        return lines

    def statement(self, depth: int) -> list[str]:
        i, b, ints, text = self.int, self.bool, self.ints, self.text
        name, other = self.one(*INTS), self.one(*LISTS)
        simple: list[Callable[[], list[str]]] = [
            lambda: [f"{name} = {i()}"],
            lambda: [f"{name} = {i()}"],
            lambda: [f"{name} = {i()}"],
            lambda: [f"{other} = list({ints()})"],
            lambda: [f"{other} = [(k := k + cb(v)) for v in {ints()}]"],
            lambda: [f"s = {text()}"],
            lambda: [f"{name} += {i()}"],
            lambda: [f"acc[{i()} % 1] += {i()}"],
            lambda: [f"d[{i()} % 3] = {i()}"],
            lambda: [f"d.setdefault(1, 0); d[1] -= {i()}"],
            lambda: [f"xs += [{i()}]"],
            lambda: [f"acc[:1] = [{i()}]"],
            lambda: [f"n, m = {i()}, {i()}"],
            lambda: [f"(n, m), k = ({i()}, {i()}), {i()}"],
            lambda: [f"n, *ys = [{i()}, *{ints()}]"],
            lambda: [f"*ys, {name} = {ints()} or [1], {i()}", "ys = [len(ys)]"],
            lambda: [f"for box.last, {name} in [({i()}, {i()})]: acc[0] = box.last"],
            lambda: [f"trace({text()})"],
            lambda: [f"box.add({i()})"],
            lambda: [f"assert {b()} or True, {text()}"],
            lambda: [f"{name}: int = {i()}"],
            lambda: [f"del {name}; {name} = {i()}"],
            self.futures,
            self.closure,
        ]
        if self.loops:
            simple += [lambda: [f"if {b()}: {self.one('break', 'continue')}"]] * 5
        nested: list[Callable[[], list[str]]] = [
            lambda: self.branch(depth),
            lambda: self.branch(depth),
            lambda: self.branch(depth),
            lambda: self.loop(depth),
            lambda: self.loop(depth),
            lambda: self.attempt(depth),
            lambda: self.attempt(depth),
            lambda: [f"with {self.manager()}:", *self.body(depth)],
            lambda: self.matched(depth),
            lambda: [f"if {b()}:", f"    return {self.one(i(), text(), ints())}"],
            lambda: self.function(depth),
        ]
        found: Callable[[], list[str]] = self.one(*simple, *(nested if depth > 0 else []))
        return found()

    def futures(self) -> list[str]:
        """Return submits whose results are asked for later, in one of the usual ways."""
        f = self.fresh("f")
        i, ints = self.int, self.ints
        found = self.one(
            lambda: [f"{f} = cb.submit({i()})", f"n = {i()}", f"m = {f}.result()"],
            lambda: [f"{f} = cb.map({ints()})", f"k = {i()}", f"ys = list({f}.result())"],
            lambda: [f"{f} = [cb.submit(v) for v in {ints()}]", f"ys = [g.result() for g in {f}]"],
            lambda: [
                f"{f} = [cb.submit(v) for v in {ints()}] + [boom.submit(1)]",
                "ys = []",
                f"for g in {f}:",
                "    try:",
                "        ys.append(g.result())",
                "    except ValueError as error:",
                "        s = str(error)",
            ],
            lambda: [
                f"{f}, {f}s = cb.submit({i()}), cb.map({ints()})",
                f"n = cb({f}.result()) + sum(cb(g.result()) for g in {f}s)",
                f"d[0] = cb(len(list(zip({f}s.result(), [g.result() for g in {f}s]))))",
            ],
            lambda: [
                f"{f} = [cb.submit(v) for v in {ints()}]",
                f"for g in {f}:",
                f"    acc[0] += cb(g.result()) + {i()}",
            ],
            lambda: [
                f"{f} = [cb.submit(v) for v in {ints()}]",
                f"if any(g.result() > {i()} for g in {f}):",
                f"    m = cb(sum(g.result() for g in {f}))",
            ],
            lambda: [
                f"{f} = {{v: cb.submit(v) for v in {ints()}}}",
                f"k = sum({f}[v].result() for v in {f})",
            ],
        )
        return list(found())

    def closure(self) -> list[str]:
        """Return a function or generator that is made here, and its use in the next lines."""
        f, name = self.fresh("f"), self.one(*INTS)
        i = self.int
        found = self.one(
            lambda: [f"{f} = lambda v: v + {name}", f"n = {f}({i()}) + {f}(1)"],
            lambda: [f"{f} = lambda v: cb(v)", f"n = {f}({f}({i()}))"],
            lambda: [
                f"{f} = (cb(v) for v in {self.ints()})",
                f"n = next({f}, 0)",
                f"ys = list({f})",
            ],
            lambda: [f"{f} = functools.partial(cb, y={i()})", f"n = {f}({i()})"],
            lambda: [f"{f} = box.add", f"n = {f}({i()})"],
            lambda: [
                f"{f} = iter({self.ints()})",
                f"n = next({f}, 7)",
                "m = cb(n)",
                f"k = next({f}, 8)",
            ],
        )
        return list(found())

    def function(self, depth: int) -> list[str]:
        """Return a nested function over variables of the flow, perhaps one that changes them."""
        f, name = self.fresh("f"), self.one(*INTS)
        self.loops, loops = 0, self.loops
        body = [f"nonlocal {name}", f"{name} = v + {self.int(1)}"] if self.one(True, False) else []
        body += [f"w = {self.one('v', 'v + n', 'cb(v)', 'v + len(xs)')}", "return w"]
        self.loops = loops
        lines = [f"def {f}(v):", *_indented(body), f"k = {f}({self.int()})"]
        if not self.draw(st.integers(0, 3)):
            inner = self.one(f"yield v + {name}", f"return iter([(lambda: {name})() + v])")
            lines = [f"def {f}(v):", f"    {inner}", f"{f} = {f}(n)", f"m = next({f})"]
            return [*lines, f"k = {self.int()}", f"{name} = 4", f"ys = list({f})"]
        if self.one(True, False):
            lines.append(f"m = {f}({self.int()}) + {f}(2)")
        return lines

    def manager(self) -> str:
        return self.form(
            lambda: f"ctx({self.text()}) as n",
            lambda: f"nullcontext({self.int()}) as m",
            lambda: "box as same",
            lambda: f"ctx('a') as n, ctx({self.text(1)}) as m",
            lambda: f"ctx({self.int()})",
        )

    def branch(self, depth: int) -> list[str]:
        lines = [f"if {self.bool()}:", *self.body(depth)]
        for _ in range(self.draw(st.integers(0, 1))):
            lines += [f"elif {self.bool()}:", *self.body(depth)]
        return lines + (["else:", *self.body(depth)] if self.one(True, False) else [])

    def loop(self, depth: int) -> list[str]:
        t = self.fresh("t")
        constant = ("(1, 2)", "SIZES", "range(LIMIT)", "[0, 1]")
        pairs = ("((1, 2), (3, 4))", "enumerate(ys[:2])", "d.copy().items()")
        head = self.one(
            lambda: [f"for {self.one(*INTS)} in {self.ints()}:"],
            lambda: [f"for {self.one(*INTS)} in {self.one(*constant)}:"],
            lambda: [f"for n, m in {self.one(*pairs)}:"],
            lambda: [f"{t} = 0", f"while {t} < 2 and {self.bool()}:", f"    {t} += 1"],
            lambda: [f"{t} = 0", f"while ({t} := {t} + 1) < 3:"],
        )
        lines = [*head(), *self.looped(depth)]
        return lines + (["else:", *self.body(depth)] if not self.draw(st.integers(0, 3)) else [])

    def attempt(self, depth: int) -> list[str]:
        raising = self.one("boom(1)", "pass", "{}['k']", "[][n]", "raise ValueError(s)", "int('x')")
        body = (
            [*self.body(depth), f"    {raising}"]
            if self.one(True, False)
            else [f"    n = {self.int()}"]
        )
        lines = ["try:", *body]
        if not self.draw(st.integers(0, 2)):
            return [*lines, *self.fallback(depth)]
        if self.one(True, True, False):
            caught = self.one("ValueError", "(ValueError, LookupError)", "Exception")
            lines += [
                f"except {caught} as error:",
                "    s = type(error).__name__",
                *self.body(depth),
            ]
            if caught != "Exception":
                lines += ["except Exception:", *self.body(depth)]
            lines += ["else:", *self.body(depth)] if self.one(True, False) else []
            lines += ["finally:", *self.unlooped(depth)] if not self.draw(st.integers(0, 2)) else []
            return lines
        return [*lines, "except LookupError: k = 9", "finally:", *self.unlooped(depth)]

    def fallback(self, depth: int) -> list[str]:
        """Return handlers that call a checkpoint, after which no more is caught."""
        name, i = self.one(*INTS), self.int
        if self.loops and self.one(True, False):
            return [
                "except Exception:",
                f"    {name} = {i()}",
                f"    {self.one('break', 'continue')}",
            ]
        early = self.one("pass", "s = str(error)", f"if {self.bool(1)}: raise", "acc[0] += 1")
        call = self.form(
            lambda: f"cb({i()})",
            lambda: f"cb({i(1)}, y=len(str(error)))",
            lambda: f"cb(s, y=len(error.args)) + {i(1)}",
            lambda: f"{self.one('down', 'decorated')}({i(1)} % 2)",
        )
        late = self.one("acc[0] += 1", f"return {i()}", "raise", f"k = {i()}", "s = repr(error)")
        lines = ["except (ValueError, LookupError) as error:"]
        lines += [f"    {line}" for line in (early, f"{name} = {call}", late)]
        lines += self.one([], ["except TypeError:", *self.body(depth)])
        return lines + self.one([], ["else:", *self.body(depth)])

    def unlooped(self, depth: int) -> list[str]:
        """Return a body that leaves no loop: newer versions of Python warn of that in `finally`."""
        self.loops, loops = 0, self.loops
        lines = _indented([f"k = {self.int()}", f"trace({self.text()})"])
        self.loops = loops
        return lines

    def matched(self, depth: int) -> list[str]:
        subject = self.form(
            self.int, self.ints, lambda: "d", lambda: f"({self.int()}, {self.text()})"
        )
        patterns = ["0 | 1", "[n, *_]", "[n, m]", "{0: k}", "(n, str())", "int(m)", "[]"]
        lines = [f"match {subject}:"]
        for _ in range(self.draw(st.integers(1, 3))):
            guard = self.one("", "", f" if {self.bool(1)}")
            lines += [f"    case {self.one(*patterns)}{guard}:", *_indented(self.body(depth))]
        return [
            *lines,
            *(["    case _:", *_indented(self.body(depth))] if self.one(True, False) else []),
        ]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
