"""Kinds of state that a program stores outside its frame, and programs that use them.

A kind is what its module defines, and an expression that changes the state and returns what can be
seen of it. `{n}` is a number that is different in each program.
"""

# ruff: noqa: E501 (a line of a program is a line)
from __future__ import annotations

from hypothesis import strategies as st

KINDS = {
    "list": ("KEPT = []", "KEPT.append(len(KEPT)) or list(KEPT)"),
    "rebound": (
        "TOTAL = 0\ndef more():\n    global TOTAL\n    TOTAL += 2\n    return TOTAL",
        "more()",
    ),
    "subclass of dict": (
        "class Registry(dict):\n    def add(self, k): self[k] = len(self); return dict(self)\n"
        "REGISTRY = Registry()",
        "REGISTRY.add(len(REGISTRY) + 1)",
    ),
    "subclass of list": ("class Log(list): pass\nLOG = Log()", "LOG.append(1) or len(LOG)"),
    "user dict": (
        "from collections import UserDict\nUSERS = UserDict()",
        "USERS.update({len(USERS): 1}) or dict(USERS)",
    ),
    "chain map": (
        "from collections import ChainMap\nCHAIN = ChainMap({}, {})",
        "CHAIN.update({len(CHAIN): 2}) or sorted(CHAIN)",
    ),
    "array": ("import array\nNUMBERS = array.array('i')", "NUMBERS.append(3) or list(NUMBERS)"),
    "deque": (
        "from collections import deque\nDEQUE = deque(maxlen=2)",
        "DEQUE.append(len(DEQUE)) or list(DEQUE)",
    ),
    "counter": ("import itertools\nIDS = itertools.count(5)", "next(IDS)"),
    "counter of a class": (
        "import itertools\nclass Node:\n    ids = itertools.count()\n"
        "    def __init__(self): self.id = next(Node.ids)",
        "Node().id",
    ),
    "counter of a dataclass": (
        "import itertools\nfrom dataclasses import dataclass, field\n@dataclass\nclass Task:\n"
        "    id: int = field(default_factory=itertools.count(1).__next__)",
        "Task().id",
    ),
    "cycle": ("import itertools\nCYCLE = itertools.cycle('abc')", "next(CYCLE)"),
    "iterator": ("ITERATOR = iter(range(1000))", "next(ITERATOR)"),
    "generator": (
        "def numbers():\n    n = 0\n    while True:\n        n += 1\n        yield n\nNUMBERS_OF = numbers()",
        "next(NUMBERS_OF)",
    ),
    "generator over a list": (
        "TAKEN = []\ndef taking():\n    while True:\n        TAKEN.append(1)\n        yield\nTAKER = taking()",
        "next(TAKER) or len(TAKEN)",
    ),
    "cache that returns a dict": (
        "import functools\n@functools.lru_cache\ndef shared(): return {'n': 0}",
        "shared().update(n=shared()['n'] + 1) or shared()['n']",
    ),
    "cache that returns an object": (
        "import functools\nclass Client:\n    calls = 0\n    def next(self): self.calls += 1; return self.calls\n"
        "@functools.cache\ndef client(): return Client()",
        "client().next()",
    ),
    "cached property": (
        "import functools\nclass Settings:\n    @functools.cached_property\n    def made(self): return []\n"
        "SETTINGS = Settings()",
        "SETTINGS.made.append(1) or len(SETTINGS.made)",
    ),
    "event": (
        "import threading\nSTOP = threading.Event()",
        "(STOP.is_set(), STOP.set())[0]",
    ),
    "semaphore": (
        "import threading\nSLOTS = threading.Semaphore(1000)",
        "SLOTS.acquire() and SLOTS._value",
    ),
    "queue": ("import queue\nQUEUE = queue.Queue()", "QUEUE.put(1) or QUEUE.qsize()"),
    "simple queue": (
        "import queue\nSIMPLE = queue.SimpleQueue()",
        "SIMPLE.put(1) or SIMPLE.qsize()",
    ),
    "thread local": (
        "import threading\nLOCAL = threading.local()",
        "LOCAL.__dict__.update(n=LOCAL.__dict__.get('n', 0) + 1) or LOCAL.n",
    ),
    "random": ("import random\nDICE = random.Random(3)", "DICE.random()"),
    "random in an object with a lock": (
        "import random, threading\nclass Session:\n    __slots__ = ('rng', 'lock')\n"
        "    def __init__(self): self.rng = random.Random(3); self.lock = threading.Lock()\n"
        "SESSION = Session()",
        "SESSION.rng.random()",
    ),
    "subclass of random": (
        "import random\nclass Dice(random.Random): pass\nDIE = Dice(4)",
        "DIE.random()",
    ),
    "database": (
        "import sqlite3\nDB = sqlite3.connect(':memory:', check_same_thread=False)\n"
        "DB.execute('create table t (x)')",
        "DB.execute('insert into t values (1)').lastrowid",
    ),
    "database under two names": (
        "import sqlite3\nFIRST = sqlite3.connect(':memory:', check_same_thread=False)\nSECOND = FIRST\n"
        "FIRST.execute('create table t (x)')\n"
        "def written(): FIRST.execute('insert into t values (1)')",
        "written() or SECOND.execute('select count(*) from t').fetchone()[0]",
    ),
    "memory file": ("import io\nBUFFER = io.StringIO()", "BUFFER.write('x') and BUFFER.getvalue()"),
    "logger into memory": (
        "import io, logging\nTEXT = io.StringIO()\nLOGGER = logging.Logger('kept')\n"
        "LOGGER.addHandler(logging.StreamHandler(TEXT))",
        "LOGGER.warning('w') or TEXT.getvalue()",
    ),
    "context variable": (
        "from contextvars import ContextVar\nBUDGET = ContextVar('budget', default=0)",
        "BUDGET.set(BUDGET.get() + 1) and BUDGET.get()",
    ),
    "default": (
        "def gather(x, into=[]):\n    into.append(x)\n    return list(into)",
        "gather(1)",
    ),
    "closure": (
        "def counting():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return count\nCOUNT = counting()",
        "COUNT()",
    ),
    "attribute of a function": (
        "def used(): used.times = getattr(used, 'times', 0) + 1; return used.times",
        "used()",
    ),
    "class attribute": (
        "class Total:\n    made = 0",
        "setattr(Total, 'made', Total.made + 1) or Total.made",
    ),
    "model name": (
        "class Config:\n    model_name = 'a'",
        "setattr(Config, 'model_name', Config.model_name + 'a') or Config.model_name",
    ),
    "made by globals()": (
        "def bump(): globals()['LEVEL'] = globals().get('LEVEL', 0) + 1; return globals()['LEVEL']",
        "bump()",
    ),
    "through getattr": (
        "import sys\nCELLS = [0]\ndef cells(): return getattr(sys.modules[__name__], 'CEL' + 'LS')",
        "cells().append(1) or len(cells())",
    ),
    "aliases": (
        "LEFT = []\nRIGHT = []\ndef link():\n    global RIGHT\n    RIGHT = LEFT\n    LEFT.clear()\n    return RIGHT is LEFT",
        "(RIGHT is LEFT, link())",
    ),
    "wrapper object": (
        "import functools\nclass Tool:\n    def __init__(self, f): functools.update_wrapper(self, f); self.calls = 0\n"
        "    def __call__(self): self.calls += 1; return self.calls\n@Tool\ndef tool(): pass",
        "tool()",
    ),
    "other module": ("import kept", "kept.more()"),
    "module imported late": (
        "def late():\n    import kept_late\n    return kept_late.more()",
        "late()",
    ),
    "late iterator": (
        "def stream():\n    import kept_late\n    return next(kept_late.STREAM)",
        "stream()",
    ),
    "module as a value": ("import kept\nPLUGINS = [kept]", "PLUGINS[0].more()"),
}
BESIDE = {
    "kept.py": "NOTED = []\ndef more(): NOTED.append(1); return len(NOTED)\n",
    "kept_late.py": (
        "import itertools\nclass Noted(dict): pass\nNOTED = Noted()\nSTREAM = itertools.cycle('xyz')\n"
        "def more(): NOTED[len(NOTED)] = 1; return len(NOTED)\n"
    ),
}  # fmt: skip

HARMLESS = {
    "pattern": ("import re\nPATTERN = re.compile('a+')", "bool(PATTERN.match('aa'))"),
    "logger": ("import logging\nlog = logging.getLogger(__name__)", "log.debug('x')"),
    "free lock": ("import threading\nLOCK = threading.Lock()", "LOCK.acquire() and LOCK.release()"),
    "reentrant lock": ("import threading\nRLOCK = threading.RLock()", "RLOCK.acquire() and RLOCK.release()"),
    "pure cache": ("import functools\n@functools.lru_cache\ndef double(x): return 2 * x", "double(4)"),
    "frozen settings": (
        "import functools\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass Frozen:\n"
        "    key: str = 'k'\n@functools.cache\ndef frozen(): return Frozen()",
        "frozen().key",
    ),
    "pure cached property": (
        "import functools\nclass Shape:\n    @functools.cached_property\n    def area(self): return 3\nSHAPE = Shape()",
        "SHAPE.area",
    ),
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(1)",
        "POOL.submit(int, 3).result()",
    ),
    "generic function": (
        "import functools\n@functools.singledispatch\ndef shown(x): return 1\n@shown.register\n"
        "def _(x: int): return 2",
        "shown(3)",
    ),
    "enumeration": (
        "import enum\nclass Mode(enum.Flag):\n    A = 1\n    B = 2",
        "(Mode.A | Mode.B).value",
    ),
    "model": (
        "from pydantic import BaseModel\nclass Item(BaseModel):\n    n: int = 1",
        "Item().model_dump()['n'] + len(Item.model_json_schema())",
    ),
    "named tuple": (
        "from typing import NamedTuple\nclass Point(NamedTuple):\n    x: int = 1",
        "Point().x",
    ),
    "http client": ("import httpx\nHTTP = httpx.Client()", "HTTP.timeout.read"),
    "service client": (
        "import functools, openai\n@functools.cache\ndef service(): return openai.OpenAI(api_key='k')",
        "str(service().base_url)",
    ),
    "large table": ("TABLE = {f'k{i}': {'n': [i]} for i in range(20_000)}", "TABLE['k3']['n'][0]"),
    "arrays": ("import numpy\nARRAY = numpy.zeros(3)", "float(ARRAY.sum())"),
    "template": ("from string import Template\nGREETING = Template('$x')", "GREETING.substitute(x=1)"),
    "random of the module": ("from random import randint", "randint(3, 3)"),
    "semaphore of asyncio": (
        "import asyncio\nGATE = asyncio.Semaphore(2)\nasync def pass_gate():\n    async with GATE: return 1",
        "asyncio.run(pass_gate())",
    ),
    "declared": (
        "import itertools, kitaru\nSTAMPS = kitaru.stateless(itertools.cycle([1]))",
        "next(STAMPS)",
    ),
}  # fmt: skip


def program(definitions: list[str], body: list[str]) -> str:
    """Return a program whose flow has these lines, with three checkpoints."""
    lines = [
        "import kitaru",
        "from kitaru import checkpoint, flow",
        *definitions,
        "@checkpoint",
        "def a(x): trace(f'a {x}'); return x",
        "@checkpoint",
        "def b(x): trace(f'b {x}'); return x",
        "@flow",
        "def main(n=1):",
        *(f"    {line}" for line in body),
    ]
    return "\n".join(lines) + "\n"


@st.composite
def state_programs(draw: st.DrawFn) -> str:
    """Return a program that uses kinds of state between its checkpoints, in any order."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True))
    definitions = [KINDS[kind][0] for kind in kinds]
    expressions = {}
    for index, kind in enumerate(kinds):
        expression = KINDS[kind][1]
        definitions += [
            f"def helper_{index}(): return {expression}",
            "@checkpoint",
            f"def body_{index}(x): return {expression}",
        ]
        expressions[kind] = [expression, f"helper_{index}()", f"body_{index}(1)"]
    lines = ["out = []"]
    for number in range(draw(st.integers(2, 5))):
        use = draw(st.sampled_from(expressions[draw(st.sampled_from(kinds))]))
        step = draw(st.sampled_from(["a", "b"]))
        line = draw(
            st.sampled_from(
                [
                    f"out.append({use})",
                    f"x = {use}; out.append(x)",
                    f"out.append({step}(repr({use})))",
                    f"if {step}({number}) >= 0: out.append({use})",
                ]
            )
        )
        lines += [line, f"out.append({step}({number}))"]
    return program(definitions, [*lines, "return out"])
