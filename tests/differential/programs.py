"""Makes random flows: every construct the compiler treats, with effects where order could be lost.

Names are few, so that they collide; some shadow module globals; operands trace when they are asked
for their truth, formatted, added or iterated.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.differential.submitting import futures, gathered

PRELUDE = '''
import kitaru
from kitaru import checkpoint, flow
import other

class Noisy:
    """Traces whatever Python asks of it."""
    def __init__(self, n): self.n = n
    def __repr__(self): return f"N{self.n}"
    def __bool__(self): trace(f"bool {self.n}"); return self.n % 2 == 1
    def __format__(self, spec): trace(f"format {self.n}"); return f"<{self.n}>"
    def __add__(self, other): trace(f"add {self.n}"); return self.n
    def __iter__(self): trace(f"iter {self.n}"); return iter((self.n, 1))
    def __eq__(self, other):
        trace(f"eq {self.n}")
        return isinstance(other, Noisy) and other.n == self.n
    def __lt__(self, other): trace(f"lt {self.n}"); return True
    __hash__ = None

class Point:
    """Traces what a class pattern asks of it."""
    __match_args__ = ("x", "y")
    x = 1
    def __repr__(self): return "P"
    def __getattr__(self, name): trace(f"get {name}"); return 2

@checkpoint
def ca(x=0): return [str(x)]
@checkpoint
def cb(x=0, y=1): return len(str(x)) + len(str(y))
@checkpoint(retries=1)
def cc(x=0): return len(str(x)) % 2 == 0
@checkpoint
def boom(x=0):
    raise ValueError(f"boom {x}")

b = "global b"
ROUNDS = 2
PAIR: tuple = (-1, ("x", 1))
SHARED = other.POOL

def glue(x):
    trace(f"glue {x!r}")
    return x

COUNT = 0

def bump():
    global COUNT
    COUNT += 1
    return COUNT

def spread(**kw): return sorted(kw)
def pick(*a): return a[0] if a else None

def rec(n, b=1):
    if isinstance(n, int) and 0 < n < 3:
        return [ca(n), rec(n - 1, b)]
    return cb(n, b)

def both(a, b="both"):
    if cc(a):
        return other.make(a)
    for d in (a, b):
        c = cb(d)
    return [c, other.keep(b, b=a)]
'''

# An object that a frame can hold, with certain methods, and some whose methods are not.
KEEPER = """
from dataclasses import dataclass, field

@dataclass
class Keeper:
    kept: list = field(default_factory=list)

    def keep(self, v):
        self.kept.append(ca(v))
        return len(self.kept)

    def twice(self, v):
        if self.keep(v) > 2:
            return self.kept
        return cb(v, y=self.keep([v]))

class Base:
    def ask(self, v): return ca(v)
    def __call__(self, v): return cb(v)

class Agent(Base):
    def again(self, v):
        found = self.ask(v)
        return [found, cb(found)]

def hired(): return Agent()

TOOLS = {"ca": ca, "cb": cb, "agent": Agent()}

def use(name, *args): return TOOLS[name](*args)
"""

# The module beside it.
OTHER = """
from kitaru import checkpoint

@checkpoint
def oa(x=0): return [str(x)]
@checkpoint
def ob(x=0, y=1): return len(str(x)) - len(str(y))

b = "global of other"
POOL = [1, 2]
KEPT = []

def make(a, b=None, *, c="c"):
    trace(f"make {a!r} {b!r}")
    if not a:
        return b
    d = oa(b)
    d.append(c)
    if b is None and ob(a):
        trace("early")
        return d
    return (d, d, ob(c, y=a))

def keep(a, b=KEPT):
    c = inner(a)
    if b is KEPT:
        trace("the same")
    return [c, b is POOL, inner(b)]

def inner(v):
    return oa([b, v])[0]
"""

NAMES = ("a", "b", "c", "xs", "d")
STARTS = (("b", "2"), ("c", "[5]"), ("d", "'d'"))


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Return the source of a module with one flow, `main(a, xs)`."""
    writer = Traced(draw)
    lines: list[str] = []
    for number in range(draw(st.integers(0, 3))):
        lines += writer.helper(f"h{number}")
    body = [f"{name} = {value}" for name, value in STARTS if draw(st.integers(0, 9))]
    body += writer.block(2, draw(st.integers(2, 7)))
    lines += ["@flow", "def main(a=1, xs=()):", *("    " + line for line in body)]
    return PRELUDE + "\n".join(lines) + "\n"


@st.composite
def winding_programs(draw: st.DrawFn) -> str:
    """Return a flow of branches, matches and loops left early, whose operands do not fail."""
    writer = Calm(draw)
    lines: list[str] = []
    for number in range(draw(st.integers(0, 2))):
        lines += writer.helper(f"h{number}")
    body = [f"{name} = {value}" for name, value in (*STARTS, ("v", "0"), ("xs", "[1, 2]"))]
    body += writer.block(3, draw(st.integers(1, 4)))
    body += [f"trace(repr({name}))" for name in (*NAMES, "v")]
    lines += ["@flow", "def main(a=1, xs=()):", *("    " + line for line in body)]
    return PRELUDE + "\n".join(lines) + "\n"


@st.composite
def helping_programs(draw: st.DrawFn) -> str:
    """Return a flow that mostly calls helpers, which call each other."""
    writer = _Helping(draw)
    lines = [KEEPER]
    made = ["keeper = Keeper()", *(f"{name} = {value}" for name, value in STARTS), "xs = [1]"]
    for number in range(draw(st.integers(1, 3))):
        head, *body = writer.helper(f"h{number}")
        lines += [head, *(f"    {line}" for line in made), *body]
    body = [*made, *writer.block(2, draw(st.integers(1, 3)))]
    body += [f"trace(repr({name}))" for name in NAMES] + ["return keeper.kept, xs"]
    lines += ["@flow", "def main(a=1, xs=()):", *("    " + line for line in body)]
    return PRELUDE + "\n".join(lines) + "\n"


@cache
def positions(count: int) -> st.SearchStrategy[int]:
    """Return the strategy of the positions in a list; a new one for each draw takes longer."""
    return st.integers(0, count - 1)


class Traced:
    """Writes statements; `helpers` are the functions that may be called so far."""

    ITEMS = (
        *("(1, 2)", "['x', 'y']", "range(2)", "(a, glue(3))", "()", "xs", "Noisy(3)"),
        *("range(ROUNDS)", "PAIR"),
    )

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.loops = 0
        self.helpers = ["rec", "both", "other.make", "other.keep"]

    def helper(self, name: str) -> list[str]:
        """Return a function of the module, callable by what comes after it."""
        default = self.one("2", "None", "(1, 'x')", "SHARED", "-1")
        head = self.one(f"def {name}(a, b={default}):", f"def {name}(xs, /, a=1, *, b={default}):")
        body = self.block(1, self.draw(st.integers(1, 4)))
        if self.draw(st.booleans()):
            body.append(f"return {self.expr(2)}")
        self.helpers += [name, name]
        return [head, *("    " + line for line in body)]

    def helped(self, depth: int) -> str:
        name = self.one(*self.helpers)
        e = lambda: self.expr(depth - 1)  # noqa: E731
        return self.one(
            f"{name}({e()})",
            f"{name}({e()}, b={e()})",
            f"{name}({e()}, b={e()})",
            f"{name}(*glue([{self.atom()}]))",
            f"{name}(({self.name()} := {e()}), b={self.name()})",
            f"{name}({e()}, {e()})",
        )

    def one(self, *options: Any) -> Any:
        return options[self.draw(positions(len(options)))]

    def name(self) -> str:
        return self.one(*NAMES)

    def atom(self) -> str:
        kind = self.one("name", "name", "const", "noisy", "glue", "global")
        if kind == "name":
            return self.name()
        if kind == "const":
            return self.one("0", "1", "3", "'s'", "None", "[]", "(1, 2)", "True")
        if kind == "noisy" and not self.draw(st.integers(0, 5)):
            return "Point()"
        if kind == "noisy":
            return f"Noisy({self.one('0', '1', '2')})"
        if kind == "global":
            return self.one("COUNT", "bump()", "SHARED", "missing")
        return f"glue({self.name()})"

    def call(self, depth: int) -> str:
        return self.one(
            f"ca({self.expr(depth - 1)})",
            f"cb({self.expr(depth - 1)}, y={self.atom()})",
            f"cc({self.expr(depth - 1)})",
            f"cb(y={self.expr(depth - 1)}, x={self.expr(depth - 1)})",
            f"kitaru.wait(name={self.one(repr('ok'), repr('no'), repr('number'))})",
            self.memory(depth),
            f"kitaru.inbox({self.one(repr('steer'), repr('stop'))})",
        )

    def memory(self, depth: int) -> str:
        key = self.one("'k'", "'j'")
        return self.one(
            f"kitaru.memory.get({key})",
            f"kitaru.memory.get({key}, {self.atom()})",
            f"kitaru.memory.set({key}, {self.expr(depth - 1)})",
            f"kitaru.memory.delete({key})",
            "kitaru.memory.list()",
        )

    def expr(self, depth: int) -> str:
        if depth <= 0:
            return self.atom()
        kind = self.draw(st.integers(0, 31))
        e = lambda: self.expr(depth - 1)  # noqa: E731
        forms = {
            0: lambda: self.call(depth),
            27: lambda: self.helped(depth),
            28: lambda: self.helped(depth),
            29: lambda: self.helped(depth),
            30: lambda: gathered(self, depth),
            31: lambda: gathered(self, depth),
            1: lambda: self.call(depth),
            2: lambda: self.call(depth),
            3: lambda: (
                self.one("Noisy(1) + {}", "str({}) + str({})", "{} + {}")
                .format(e(), e())
                .join("()")
            ),
            4: lambda: f"[{e()}, {e()}]",
            5: lambda: f"({e()} and {e()})",
            6: lambda: f"({e()} or {e()})",
            7: lambda: f"(not {e()})",
            8: lambda: f"({e()} if {e()} else {e()})",
            9: lambda: f"({e()} == {e()})",
            10: lambda: f"({self.atom()} < {e()} < {e()})",
            11: lambda: f'f"{{{self.field()}}}{{{self.field()}!r}}-{{{self.field()}:>3}}"',
            12: lambda: f"({self.name()} := {e()})",
            13: lambda: f"pick({e()}, {e()})",
            14: lambda: f"spread(k={e()}, **glue({{'z': 1}}))",
            15: lambda: f"pick(*glue([1, 2]), {e()})",
            16: lambda: f"[*glue((1, 2)), {e()}]",
            17: lambda: "{" + f"'k': {e()}, **{{'j': {e()}}}" + "}",
            18: lambda: (
                f"[{self.call(1)} for {self.one('v', 'a')} in {self.one('(1, 2)', 'glue([3])')}]"
            ),
            19: lambda: f"str({e()}).upper()",
            20: lambda: f"(glue({self.atom()}), {e()})[{self.one('0', '1')}]",
            22: lambda: f"({self.name()} < ({self.name()} := {e()}) < {e()})",
            23: lambda: f"(lambda v={e()}: (v, {self.name()}))()",
            24: lambda: f"[({self.name()} := v) for v in (1, 2) if str({e()})]",
            25: lambda: f"{{'j': {self.atom()}, 'k': {e()}}}.get('k')",
            26: lambda: f"sum((1 for v in {self.one('(1, 2)', 'glue((3,))')}), {self.call(1)})",
            21: lambda: (
                f"sorted(map(str, {self.one('SHARED', 'glue([2, 1])')}), "
                f"key=lambda v: (v, str({self.atom()})))"
            ),
        }
        return forms[kind]()

    def field(self) -> str:
        """Return an expression without quotes: Python before 3.12 wants that in an f-string."""
        name = self.name()
        return self.one(
            name, f"str({name})", "Noisy(2)", f"cb({name}, y={self.name()})", f"str(ca({name}))"
        )

    def block(self, depth: int, length: int) -> list[str]:
        lines: list[str] = []
        for _ in range(length):
            lines += self.statement(depth)
        return lines

    def indented(self, depth: int) -> list[str]:
        body = self.block(depth - 1, self.draw(st.integers(1, 3)))
        return ["    " + line for line in body]

    def round(self, depth: int) -> list[str]:
        """Return the body of a loop, which may leave its round or the loop at any place."""
        self.loops += 1
        body = self.indented(depth)
        self.loops -= 1
        return body

    def leave(self) -> list[str]:
        """Return a way out of the round, or out of the loop."""
        word = self.one("break", "continue", "continue", "return d")
        handler = self.one(*("except Exception:",) * 5, "except Exception as d:")
        after = self.one(*("except ValueError: pass",) * 5, "finally: d = 2")
        return self.one(
            [f"if {self.expr(2)}: {word}"],
            [f"if {self.expr(1)}:", f"    d = {self.call(1)}", f"    {word}"],
            ["try:", f"    c = {self.call(1)}; boom({self.atom()})", handler, f"    {word}"],
            ["try:", f"    if {self.expr(1)}: {word}", after],
            [f"match {self.expr(1)}:", f"    case {self.pattern()}:", f"        {word}"],
            [f"for v in (1, 2): {self.name()} = {self.call(1)}", "else:", f"    {word}"],
            [word],
        )

    def caught(self, depth: int) -> list[str]:
        """Return a `try` whose handlers and `else` call checkpoints."""
        call, name = self.call(1), self.name()
        body = self.one([f"    {name} = {call}"], self.indented(depth), [f"    return {call}"])
        raising = self.one("boom(1)", "pass", "1 / 0", f"boom({self.atom()})")
        asked = self.one(
            f"{self.name()} = ca(str(d))",
            f"{self.name()} = cb({self.atom()}, y=str(d))",
            f"return cb({self.atom()})",
            f"{self.name()} = {self.expr(1)}",
            f"if {self.atom()}: d = {call}",
        )
        late = self.one("pass", "pass", f"{self.name()} = {self.expr(1)}", "raise", "trace(str(d))")
        early = self.one("pass", "trace(str(d))", f"if {self.atom()}: raise", f"d = {self.atom()}")
        lines = [
            "try:",
            *body,
            f"    {raising}",
            self.one("except ValueError as d:", "except ValueError:"),
        ]
        lines += [f"    {line}" for line in (early, asked, late)]
        lines += self.one([], ["except ZeroDivisionError:", *self.indented(depth)])
        lines += self.one([], [], ["else:", *self.indented(depth)])
        return lines + self.one([], [], [], ["finally:", f"    trace(str({self.atom()}))"])

    def pattern(self) -> str:
        return self.one(
            "[v, *_]",
            "[a, b]",
            "[d, 1] | [1, d]",
            "0 | 1",
            "{'k': c, **d}",
            "Noisy(n=c)",
            "Noisy(n=1 as d)",
            "Point(c, 2)",
            "str() as d",
            "int(a)",
            "None",
            "[Noisy(), *c]",
        )

    def statement(self, depth: int) -> list[str]:
        if self.loops and not self.draw(st.integers(0, 3)):
            return self.leave()
        if depth > 0 and not self.draw(st.integers(0, 7)):
            return futures(self)
        return self.written(self.draw(st.integers(0, 33 if depth > 0 else 19)), depth)

    def written(self, kind: int, depth: int) -> list[str]:
        """Return a statement of one kind."""
        e = lambda: self.expr(2)  # noqa: E731
        match kind:
            case 0 | 1 | 2:
                return [f"{self.name()} = {e()}"]
            case 3:
                return [f"{self.name()} = {self.call(2)}"]
            case 4:
                return [self.call(2)]
            case 5:
                return [f"{self.name()} = Noisy(4)", f"{self.name()} += {e()}"]
            case 6:
                return [f"glue({e()})"]
            case 7:
                return [f"xs = [1, 2]; ys = xs; ys.append({e()})"]
            case 8:
                return [f"xs = [0, 0]; xs[glue(0)] = {e()}", f"xs[cb() % 2] = {self.atom()}"]
            case 9:
                return [f"a, d = {e()}, {e()}"]
            case 10:
                return [self.one("del d", "del c; c = 1", "b = 1; del b")]
            case 11:
                return [f"return {e()}"]
            case 12:
                return [f"xs = [1]; xs[0] += {self.call(1)}"]
            case 13:
                return [f"d = {{'k': [1]}}; c = d['k']; d['k'] += [{e()}]; c.append(2)"]
            case 14:
                return [
                    self.one(
                        "f = lambda v=a: v", "f = lambda: a", "SHARED.append(3)", "trace(str(b))"
                    )
                ]
            case 15:
                return [f"{self.name()} = xs = [{e()}, {e()}]; xs[0], *d = {e()}, {e()}"]
            case 16:
                return [f"xs = [0, 1]; c = xs[({self.name()} := 0)] = {e()}"]
            case 17:
                return [f"xs = [0, 1]; xs[{self.atom()} and ({self.name()} := 1) or 0] = {e()}"]
            case 18:
                return [f"xs = {{}}; xs[{self.call(1)} and 1] = xs[2] = {e()}"]
            case 19:
                return [f"c = {self.name()}; {self.name()} = {self.call(1)}; d: int = c"]
            case 20 | 21 | 22:
                lines = [f"if {e()}:", *self.indented(depth)]
                if self.draw(st.booleans()):
                    lines += [f"elif {e()}:", *self.indented(depth)]
                if self.draw(st.booleans()):
                    lines += ["else:", *self.indented(depth)]
                return lines
            case 23 | 24:
                items = self.one(*self.ITEMS)
                lines = [f"for {self.one('a', 'c', 'v')} in {items}:", *self.round(depth)]
                if self.draw(st.booleans()):
                    lines += ["else:", *self.indented(depth)]
                return lines
            case 25:
                return [
                    "n = 0",
                    f"while n < 2 and str({e()}):",
                    "    n += 1",
                    *self.round(depth),
                ]
            case 26:
                lines = [
                    "try:",
                    *self.indented(depth),
                    f"    {self.one('boom(1)', 'pass', '1 / 0')}",
                ]
                lines += ["except (ValueError, ZeroDivisionError) as d:", "    trace(str(d))"]
                if self.draw(st.booleans()):
                    lines += ["finally:", f"    trace(str({self.atom()}))"]
                return lines
            case 27:
                return [f"def f(v=1): return {self.one('v', 'a', 'b', 'ca(v)')}", "c = f()"]
            case 28 | 32:
                lines = [f"match {self.one(e(), f'{e()}, {e()}', f'Noisy({e()})')}:"]
                for _ in range(self.draw(st.integers(1, 3))):
                    guard = self.one("", "", f" if {self.expr(1)}", " if (c := glue(b))")
                    lines += [f"    case {self.pattern()}{guard}:"]
                    lines += ["    " + line for line in self.indented(depth)]
                if self.draw(st.booleans()):
                    lines += [f"    case {self.one('_', 'a', '([*_] as a) | a')}:"]
                    lines += ["    " + line for line in self.indented(depth)]
                return lines
            case 29:
                return [f"assert {e()}, {e()}"]
            case 33:
                return self.caught(depth)
            case 30:
                name = self.name()
                lines = [f"{name} = {self.atom()}", "def f():", f"    nonlocal {name}"]
                return [*lines, f"    {name} = {self.atom()}", self.one("f()", "pass")]
            case _:
                return [f"if {e()}:", f"    return {e()}"]


class Calm(Traced):
    """Writes what leads control astray, and nothing else."""

    KINDS = (2, 3, 3, 4, 6, 20, 20, 23, 23, 23, 25, 26, 28, 28, 33, 33)
    ITEMS = ("(1, 2)", "(1, [2], Point())", "range(2)", "(a, glue(3))", "(0, 1)", "xs", "()")

    def atom(self) -> str:
        return self.one("0", "1", "True", "[1, 2]", "Point()", f"glue({self.name()})", self.name())

    def call(self, depth: int) -> str:
        return self.one(f"ca({self.atom()})", f"cb({self.atom()})", f"cc({self.atom()})")

    def expr(self, depth: int) -> str:
        call, atom = self.call(1), self.atom()
        if not self.draw(st.integers(0, 3)):
            return f"{self.one(*self.helpers)}({atom}, b={self.atom()})"
        return self.one(call, call, atom, f"not {call}", f"[{atom}, {call}]", f"{atom} == {call}")

    def statement(self, depth: int) -> list[str]:
        if self.loops and not self.draw(st.integers(0, 2)):
            return self.leave()
        kind = self.one(*(kind for kind in self.KINDS if depth > 0 or kind < 20))
        return self.written(kind, depth)


class _Helping(Calm):
    """Writes little else than calls of helpers, methods among them."""

    KINDS = (2, 2, 3, 4, 6, 20, 20, 23)

    def expr(self, depth: int) -> str:
        call, atom, name = self.call(1), self.atom(), self.one(*self.helpers)
        inner = self.expr(depth - 1) if depth > 0 else call
        tool = self.one("ca", "cb", "agent")
        return self.one(
            call,
            f"[{atom}, {call}]",
            f"keeper.keep({inner})",
            f"keeper.twice({atom})",
            f"other.inner({inner})",
            f"use({tool!r}, {inner})",
            f"hired().{self.one('ask', 'again', '__call__')}({inner})",
            f"(lambda agent: agent({inner}))(hired())",
            f"{name}({atom}, b={inner})",
            f"{name}({atom}, b={inner})",
            f"[{atom}, {name}({call}, b={atom})]",
        )
