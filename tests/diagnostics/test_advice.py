"""What a flow is warned of although it compiles: each rule on bad programs and on good ones."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from kitaru_compiler import check
from kitaru_compiler.diagnostics import catalogue

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRELUDE = """\
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(x=0, y=0): return x
"""
SEVERITIES = {
    "KIT109": "warning",
    "KIT202": "warning",
    "KIT203": "warning",
    "KIT204": "warning",
    "KIT205": "warning",
    "KIT206": "warning",
    "KIT207": "warning",
    "KIT208": "warning",
    "KIT209": "warning",
    "KIT210": "warning",
    "KIT211": "warning",
    "KIT212": "warning",
    "KIT213": "warning",
    "KIT214": "note",
    "KIT330": "warning",
    "KIT331": "note",
    "KIT401": "error",
    "KIT402": "error",
    "KIT403": "error",
    "KIT404": "note",
    "KIT405": "error",
    "KIT406": "error",
    "KIT407": "error",
    "KIT408": "warning",
    "KIT414": "warning",
    "KIT415": "warning",
    "KIT503": "warning",
    "KIT603": "error",
    "KIT604": "error",
    "KIT605": "error",
}


def places(folder: Path, source: str) -> list[str]:
    """What advice says of `source`, as `code line:column-line:column`, the end exclusive."""
    (folder / "flow.py").write_text(source, encoding="utf-8")
    found = check(folder / "flow.py")[0]
    spans = [(d.code, d.span) for d in found if d.code in SEVERITIES]
    return [f"{c} {s.line}:{s.column}-{s.end_line}:{s.end_column}" for c, s in spans]


def marked(source: str) -> tuple[str, str]:
    """Return a source without its marks «…», and what they enclose as a place."""
    ends = []
    for mark in "«»":
        before = source[: source.index(mark)]
        ends.append(f"{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}")
        source = source.replace(mark, "", 1)
    assert not set(source) & set("«»")
    return source, "-".join(ends)


def in_flow(imports: str, body: str) -> str:
    head = f"{PRELUDE}{imports}\n@flow\ndef main(a=1, xs=()):\n"
    return head + textwrap.indent(body, "    ") + "\n"


BAD_BODIES = [
    ("KIT202", "import time", "return draft(«time.time()»)"),
    ("KIT202", "from time import perf_counter_ns as tick", "return draft(«tick()»)"),
    ("KIT202", "from datetime import datetime as dt", "return draft(«dt.now()».isoformat())"),
    ("KIT202", "import datetime", "return draft(«datetime.date.today()»)"),
    ("KIT202", "", "from time import time\nreturn draft(«time()»)"),
    ("KIT202", "import time", "return draft(«time.localtime()»)"),
    ("KIT202", "import time", "return draft([x + «time.time()» for x in xs])"),
    ("KIT203", "import random", "return draft(«random.choice([1, 2])»)"),
    ("KIT203", "from uuid import uuid4", "return draft(str(«uuid4()»))"),
    ("KIT203", "import secrets", "return draft(«secrets.token_hex(8)»)"),
    ("KIT203", "import numpy as np", "return draft(«np.random.rand()»)"),
    ("KIT204", "import os", "return draft(«os.environ»['REGION'])"),
    ("KIT204", "import os", "return draft(«os.environ».get('REGION', ''))"),
    ("KIT204", "from os import environ as env", "return draft(«env»['REGION'])"),
    ("KIT204", "import os", "return draft(«os.getenv('REGION')»)"),
    ("KIT204", "from pathlib import Path", "return draft(str(«Path.cwd()»))"),
    ("KIT205", "", "return draft(«open('a')».read())"),
    ("KIT205", "", "return draft(«open('a', mode='rb')».read())"),
    ("KIT205", "from pathlib import Path", "return draft(«(Path('a') / 'b').read_text()»)"),
    ("KIT205", "import os", "if «os.path.exists('a')»: return draft()"),
    ("KIT213", "import os", "«os.environ['REGION']» = 'eu'\nreturn draft(a)"),
    ("KIT213", "import os", "«os.environ.update(REGION='eu')»\nreturn draft(a)"),
    ("KIT213", "from os import environ as env", "del «env['REGION']»\nreturn draft(a)"),
    ("KIT213", "import os", "«os.chdir('a')»\nreturn draft(a)"),
    ("KIT213", "import decimal", "«decimal.getcontext().prec» = 5\nreturn draft(a)"),
    (
        "KIT213",
        "from decimal import getcontext, Inexact",
        "«getcontext().traps[Inexact]» = True\nreturn draft(a)",
    ),
    ("KIT213", "import random", "«random.seed(3)»\nreturn draft(a)"),
    ("KIT213", "import locale", "«locale.setlocale(locale.LC_ALL, 'C')»\nreturn draft(a)"),
    ("KIT213", "import warnings", "«warnings.filters.clear()»\nreturn draft(a)"),
    ("KIT213", "import string", "«string.mine» = 4\nreturn draft(a)"),
    ("KIT213", "import json", "«json.JSONEncoder.extra» = 1\nreturn draft(a)"),
    ("KIT213", "import os\ndef move(): os.chdir('a')", "«move()»\nreturn draft(a)"),
    (
        "KIT214",
        "import itertools\nIDS = itertools.count()",
        "x = draft(next(IDS))\nreturn draft(next(«IDS»))",
    ),
    (
        "KIT214",
        "import itertools\nIDS = itertools.count()\ndef id(): return next(IDS)",
        "id()\ndraft(a)\nreturn «id»()",
    ),
    (
        "KIT214",
        "from sqlite3 import connect\nDB: object = connect('a')\n"
        "@checkpoint\ndef put(): DB.execute('')\n@checkpoint\ndef count(): return DB.total_changes",
        "put()\nreturn «count»()",
    ),
    ("KIT214", "def n():\n    yield 1\nN = n()", "next(N)\ndraft(a)\nreturn next(«N»)"),
    (
        "KIT214",
        "from contextvars import ContextVar\nV = ContextVar('V')",
        "draft(a)\n«V.set(a)»\nreturn draft(a)",
    ),
    (
        "KIT214",
        "import contextvars\nV: object = contextvars.ContextVar[int]('V')\ndef put(v): V.set(v)",
        "if a:\n    «put(a)»\nfor x in xs: draft(x)",
    ),
    (
        "KIT214",
        "import contextvars\nV = contextvars.ContextVar('V')",
        "for x in xs:\n    draft(x)\n    «V.set(x)»",
    ),
    ("KIT214", "N = iter([1, 2])", "next(N)\ndraft(a)\nreturn next(«N»)"),
    ("KIT214", "N = (n for n in [1, 2])", "next(N)\ndraft(a)\nreturn next(«N»)"),
    ("KIT208", "", "for x in «set(xs)»: draft(x)"),
    ("KIT208", "", "for x in «{'a', str(a)}»: draft(x)"),
    ("KIT208", "", "return draft([x for x in «{y for y in xs}»])"),
    ("KIT209", "", "if «a is 'spam'»: return draft()"),
    ("KIT209", "", "return «a is not -1»"),
    ("KIT202", "import time\ndef now(): return time.time()", "return draft(«now()»)"),
    (
        "KIT203",
        "import uuid\ndef one(): return two()\ndef two(): return uuid.uuid4()",
        "return draft(str(«one()»))",
    ),
    (
        "KIT204",
        "import os\ndef region(): return os.environ['R']",
        "x = «region()»\nreturn draft(x)",
    ),
    ("KIT205", "def load(path): return open(path).read()", "return draft(«load('a')»)"),
    ("KIT210", "", "f = «open('a', 'w')»\ndraft()\ndraft()\nf.write('x')"),
    ("KIT210", "import threading", "lock = «threading.Lock()»\ndraft()\ndraft()\nlock.acquire()"),
    ("KIT210", "", "pairs = «zip(xs, xs)»\ndraft()\nreturn draft(list(pairs))"),
    ("KIT210", "", "ys = «(x for x in xs)»\nok = kitaru.wait(name='ok')\nreturn list(ys)"),
    ("KIT330", "", "return draft(a)\n«draft(2)»"),
    ("KIT331", "", "try:\n    kitaru.wait(name='ok')\nfinally:\n    «print(a)»"),
    ("KIT331", "", "try:\n    kitaru.wait(name='ok')\nexcept:\n    «draft(2)»"),
    ("KIT331", "", "try:\n    kitaru.wait(name='ok')\nexcept BaseException:\n    «x = draft(2)»"),
    (
        "KIT331",
        "from contextlib import suppress",
        "with «suppress(ValueError)»:\n    if a: kitaru.wait(name='ok')",
    ),
    ("KIT330", "", "if a: return 1\nelse: raise ValueError\n«return draft(a)»"),
    ("KIT330", "", "for x in xs:\n    break\n    «draft(x)»\n    draft(2)"),
    ("KIT404", "", "«draft.submit(a)»\nreturn 1"),
    ("KIT404", "", "f = «draft.submit(a)»\nreturn 1"),
    ("KIT404", "", "«draft.map([1, 2])»\nreturn 1"),
    ("KIT405", "import asyncio", "return asyncio.run(«draft(a)»)"),
    ("KIT405", "import asyncio", "return asyncio.run(asyncio.wait_for(«draft(a)», 3))"),
    ("KIT405", "", "async def inner(): return await «draft(a)»\nreturn inner"),
    ("KIT406", "", "return «kitaru.llm(a, tools=TOOLS, schema=int)»"),
    ("KIT414", "", "return kitaru.wait(timeout=«172800»)"),
    (
        "KIT414",
        "from datetime import timedelta",
        "return kitaru.wait(timeout=«timedelta(days=2)»)",
    ),
    ("KIT414", "import datetime as d", "return kitaru.wait(timeout=«d.timedelta(hours=1)»)"),
    ("KIT604", "", "draft(1, id='one')\nreturn draft(2, id=«'one'»)"),
    ("KIT604", "", "draft.submit(1, id='b').result()\nif a:\n    draft(2, id=«'b'»)"),
    ("KIT605", "", "return kitaru.wait(name=«'approve draft?'»)"),
    ("KIT605", "", "return kitaru.llm('hi', name=«'é'»)"),
    ("KIT605", "", "return draft(2, id=«'a b'»)"),
]
GOOD_BODIES = [
    ("", "return kitaru.wait(timeout=600)"),
    ("import itertools\nIDS = itertools.count()", "x = next(IDS) + next(IDS)\nreturn draft(x)"),
    ("import itertools\nIDS = itertools.count()", "x = next(IDS)\ny = next(IDS)\nreturn x + y"),
    ("N = iter([1])", "N = iter(xs)\nnext(N)\ndraft(a)\nreturn draft(list(xs))"),
    ("import re\nP = re.compile('a')", "P.match('a')\ndraft(a)\nreturn P.match('b')"),
    ("", "return kitaru.wait(timeout=a)"),
    ("import time", "time.sleep(0)\nreturn draft(time.localtime(a))"),
    ("import time", "print('began', time.time())\nreturn draft(a)"),
    ("import time", "def later(): return time.time()\nreturn draft(a)"),
    ("import time", "time = a\nreturn draft(time.time())"),
    ("import time", "return draft([time.time() for time in xs])"),
    ("from datetime import datetime", "return draft(datetime(2026, 1, 1).isoformat())"),
    ("import random", "return draft(random.Random(7).random())"),
    ("import uuid", "return draft(str(uuid.uuid5(uuid.NAMESPACE_DNS, 'a')))"),
    ("import os", "return draft(os.path.join('a', 'b'))"),
    ("from decimal import Context", "c = Context()\nc.prec = 5\nreturn draft(str(c.sqrt(a)))"),
    ("import os, sys", "return draft([sys.path[:], os.path.join('a')])"),
    ("", "open('log.txt', 'a').write('x')\nreturn draft(a)"),
    ("def open(x): return x", "return draft(open('a'))"),
    ("from pathlib import Path", "return draft(Path('a').name)"),
    ("import time\ndef now(): return time.time()", "print(now())\nreturn draft(a)"),
    ("import time\ndef tell(x): print(time.time(), x)", "tell(a)\nreturn draft(a)"),
    (
        "import time, logging\nlog = logging.getLogger('a')\ndef tell(): log.info(time.time())",
        "tell()\nreturn draft(a)",
    ),
    ("import time\ndef ticks():\n    yield time.time()", "return draft(ticks)"),
    (
        "import functools, time\n@functools.cache\ndef now(): return time.time()",
        "return draft(now())",
    ),
    ("import time\ndef now(): return time.time()", "now = len\nreturn draft(now(xs))"),
    ("def twice(n): return twice(n - 1) if n else 0", "return draft(twice(a))"),
    ("", "f = open('a', 'w')\nf.write('x')\nreturn draft(draft(a))"),
    ("", "f = zip(xs, xs)\nf = list(f)\ndraft()\ndraft()\nreturn f"),
    ("", "pairs = zip(xs, xs)\ndraft()\npairs = a\nreturn draft(pairs)"),
    ("def zip(a): return a", "pairs = zip(xs)\ndraft()\ndraft()\nreturn pairs"),
    ("", "try:\n    draft(a)\nfinally:\n    draft(2)\nreturn kitaru.wait(name='ok')"),
    ("", "try:\n    kitaru.wait(name='ok')\nexcept Exception:\n    draft(2)"),
    ("", "try:\n    kitaru.wait(name='ok')\nexcept:\n    return 2"),
    ("import asyncio", "async def other(): return 1\nreturn draft(asyncio.run(other()))"),
    ("", "for x in sorted(set(xs)): draft(x)"),
    ("", "return draft(sum([x for x in set(xs)]))"),
    ("", "for x in {1, 2, 3}: draft(x)"),
    ("def set(x): return x", "for x in set([1, 2]): draft(x)"),
    ("", "if a is None or a is True: return draft()"),
    ("", "if a: return 1\nreturn draft(a)"),
    ("", "for x in [1, 2]:\n    if x: continue\n    draft(x)"),
    ("", "_ = draft.submit(a)\nreturn 1"),
    ("", "f = draft.submit(a)\nreturn f.result()"),
    ("", "f = draft.submit(a)\ndef g(): return f.result()\nreturn g()"),
    ("", "f = draft.submit(a)\nreturn locals()"),
    ("", "if a: draft(1, id='one')\nelse: draft(2, id='one')\nreturn a"),
    ("", "if a:\n    draft(1, id='one')\n    return 1\nreturn draft(2, id='one')"),
    ("", "try:\n    draft(1, id='one')\nexcept ValueError:\n    draft(2, id='one')"),
    ("", "return draft(1, id='one') if a else draft(2, id='one')"),
    ("", "_ = draft.map([], id='one')\n_ = draft.map([1], id='one').result()"),
    ("@checkpoint\ndef by_id(id): return id", "by_id(id='a b')\nreturn by_id(id='a b')"),
    ("", "return kitaru.wait(name='approve_draft', question='Approve draft?')"),
    ("", "return kitaru.wait(name=str(a))"),
]
USE = "\n@flow\ndef main(): return use()\n"
CODEC = "class Money: ...\nHOW = {}\n"
USE_DRAFT = "\n@flow\ndef main(): return draft(1)"
BAD_MODULES = [
    ("KIT206", "@checkpoint\ndef use(x=«[]»): return x" + USE),
    ("KIT206", "@checkpoint\ndef use(x=0, *, y=«dict(a=1)»): return x" + USE),
    ("KIT206", "@flow\ndef main(xs: list[str] = «[]»): return draft(xs)"),
    ("KIT207", "N = 0\n@checkpoint\ndef use():\n    global N\n    «N» += 1" + USE),
    ("KIT207", "SEEN = []\n@checkpoint\ndef use(): «SEEN.append(1)»" + USE),
    ("KIT207", "SEEN: set[int] = set()\n@checkpoint\ndef use(): «SEEN.add(1)»" + USE),
    ("KIT207", "MADE = {}\n@checkpoint\ndef use(): «MADE['a']» = 1" + USE),
    ("KIT207", "MADE = {}\n@checkpoint\ndef use():\n    del «MADE['a']»" + USE),
    ("KIT109", "TEXT = '«\u202e»abc\u202d'\n@checkpoint\ndef use(): pass" + USE),
    (
        "KIT207",
        "N = 0\ndef add():\n    global N\n    N += 1\n@checkpoint\ndef use(): «add()»" + USE,
    ),
    (
        "KIT207",
        "SEEN = []\ndef add(): more()\ndef more(): SEEN.append(1)\n"
        "@checkpoint\ndef use(): «add()»" + USE,
    ),
    ("KIT211", "@checkpoint\ndef use(x: list[int]): return «x»" + USE),
    ("KIT415", "@flow\nasync def main(): return «kitaru.wait()»"),
    ("KIT415", "from kitaru import memory\n@flow\nasync def main(): «memory.get('a')»"),
    ("KIT211", "@checkpoint\ndef use(*, x: 'int', y: dict):\n    if x: return «y»" + USE),
    ("KIT212", "@checkpoint\ndef use(x): «x.append(1)»" + USE),
    (
        "KIT212",
        "@checkpoint\ndef use(x: set[int]) -> set[int]:\n    «x.add(1)»\n    return x" + USE,
    ),
    ("KIT212", "@checkpoint\ndef use(x): «x['a']» = 1" + USE),
    ("KIT212", "@checkpoint\ndef use(x): del «x[0]»" + USE),
    ("KIT212", "@checkpoint\ndef use(x): «x.name» = 1" + USE),
    ("KIT212", "@checkpoint\ndef use(x: list[int]): «x += [1]»" + USE),
    ("KIT401", "@checkpoint\ndef use(): return [«kitaru.wait(name='ok')»]" + USE),
    ("KIT401", "def ask(): return kitaru.wait(name='ok')\n@checkpoint\ndef use(): «ask()»" + USE),
    (
        "KIT401",
        "def get(): return kitaru.memory.get('a')\ndef ask(): return get()\n"
        "@checkpoint\ndef use(): «ask()»" + USE,
    ),
    ("KIT402", "def more(): return draft(1)\n@checkpoint\ndef use(): return «more()»" + USE),
    ("KIT402", "@checkpoint\ndef use(): return «draft.submit(1)»" + USE),
    ("KIT402", "@checkpoint\ndef use():\n    def inner(): return «draft(1)»\n    inner()" + USE),
    (
        "KIT402",
        "@checkpoint\ndef use(): return «draft(1)»\ndef helper(): return use()\n"
        "@flow\ndef main(): return helper()\n",
    ),
    (
        "KIT403",
        "@flow\ndef other(): ...\ndef go(): return other()\n"
        "@checkpoint\ndef use(): return «go()»" + USE,
    ),
    ("KIT407", "YES = True\n@checkpoint(pickle=«YES»)\ndef use(): pass" + USE),
    ("KIT407", "@checkpoint(pickle=«1»)\ndef use(): pass" + USE),
    ("KIT408", CODEC + "def set_up():\n    «kitaru.register_codec(Money, **HOW)»" + USE_DRAFT),
    ("KIT408", CODEC + "if HOW:\n    «kitaru.register_codec(Money, **HOW)»" + USE_DRAFT),
    (
        "KIT408",
        CODEC + "from kitaru import register_codec as known\n"
        "if __name__ == '__main__':\n    «known(Money, **HOW)»" + USE_DRAFT,
    ),
    (
        "KIT408",
        CODEC
        + "def made():\n    @«kitaru.register_codec(**HOW)»\n    class Coin: pass"
        + USE_DRAFT,
    ),
    ("KIT408", CODEC + "LATER = lambda: «kitaru.register_codec(Money, **HOW)»" + USE_DRAFT),
    ("KIT503", "class Brief: ...\n@flow\ndef main(x: «Brief»): return draft(x)"),
    (
        "KIT503",
        "import pandas as pd  # kitaru: ignore[KIT502]\n"
        "@flow\ndef main(x: «list[pd.DataFrame] | None» = None): return draft(x)",
    ),
    (
        "KIT503",
        "from collections.abc import Callable\n"
        "@flow\ndef main(x: «dict[str, Callable[[], int]]»): return draft(x)",
    ),
    (
        "KIT503",
        "import typing\nclass Brief: ...\n"
        "@flow\ndef main(*, x: «typing.Optional['Brief']» = None): return draft(x)",
    ),
    ("KIT603", "@flow(name=«'a b'»)\ndef main(): return draft(1)"),
    ("KIT603", "@flow\ndef «résumé»(): return draft(1)"),
    ("KIT605", "@checkpoint(name=«'a b'»)\ndef use(): pass" + USE),
    ("KIT605", "@checkpoint\ndef «étude»(): pass\n@flow\ndef main(): return étude()"),
]
GOOD_MODULES = [
    "@checkpoint\ndef use(x=(), y=None): return x" + USE,
    "def list(): return ()\n@checkpoint\ndef use(x=list()): return x" + USE,
    "def helper(x=[]): return x\n@checkpoint\ndef use(): return helper()" + USE,
    "N = 0\n@checkpoint\ndef use():\n    global N\n    return N" + USE,
    "SEEN = [1]\n@checkpoint\ndef use(): return SEEN.count(1)" + USE,
    "SEEN = [1]\n@checkpoint\ndef use():\n    SEEN = []\n    SEEN.append(1)" + USE,
    "class Log:\n    def append(self, x): pass\nLOG = Log()\n"
    "@checkpoint\ndef use(): LOG.append(1)" + USE,
    "MADE = {}\nMADE = None\n@checkpoint\ndef use(): MADE['a'] = 1" + USE,
    "MADE = {}\nMADE['a'] = 1\n@checkpoint\ndef use(): return MADE['a']" + USE,
    "@checkpoint(name='a-b')\ndef use(): pass" + USE,
    "CLIENT = None\ndef client():\n    global CLIENT\n    if CLIENT is None:\n        CLIENT = 1\n"
    "    return CLIENT\n@checkpoint\ndef use(): return client()" + USE,
    "MADE = {}\n@checkpoint\ndef use(x=0):\n    if x not in MADE: MADE[x] = 1" + USE,
    "@checkpoint\ndef use(x): return x" + USE,
    "@checkpoint\ndef use(x: str): return x" + USE,
    "@checkpoint\ndef use(x: list[int]):\n    x = [*x, 1]\n    x.append(2)\n    return x" + USE,
    "@checkpoint\ndef use(x: list[int]):\n    for x in [[1]]: x.append(2)\n    return x" + USE,
    "@checkpoint\ndef use(x: list[int]): return x.copy()" + USE,
    "@checkpoint\ndef use(x): x.update(1)" + USE,
    "@checkpoint\ndef use(x: int):\n    x += 1\n    return x" + USE,
    "def helper(xs): xs.append(1)\n@checkpoint\ndef use(x): return helper([x])" + USE,
    "@checkpoint\ndef use(): return kitaru.llm('hi', tools=None, schema=int)" + USE,
    "@checkpoint(capture='off')\ndef use(): return kitaru.llm('hi', capture='full')" + USE,
    "@checkpoint(pickle=True)\ndef use(): pass" + USE,
    "@checkpoint(pickle=False)\ndef use(): pass" + USE,
    CODEC + "kitaru.register_codec(Money, **HOW)" + USE_DRAFT,
    CODEC + "kitaru.register_codec(Money, **HOW)\n@flow\ndef main(x: Money): return draft(x)",
    CODEC + "@kitaru.register_codec(**HOW)\nclass Coin: pass" + USE_DRAFT,
    CODEC + "try:\n    kitaru.register_codec(Money, **HOW)\nfinally:\n    pass" + USE_DRAFT,
    CODEC + "for one in (Money,):\n    kitaru.register_codec(one, **HOW)" + USE_DRAFT,
    CODEC + "def register_codec(): pass\nif HOW:\n    register_codec()" + USE_DRAFT,
    "from dataclasses import dataclass\n@dataclass\nclass Brief: x: int\n"
    "@flow\ndef main(x: Brief): return draft(x)",
    "from pydantic import BaseModel  # kitaru: ignore[KIT502]\nclass Brief(BaseModel): x: int\n"
    "@flow\ndef main(x: Brief, y: list[Brief]): return draft(x)",
    "import datetime, pathlib, typing\n@flow\ndef main(x: datetime.date, y: pathlib.Path, "
    "z: typing.Any, v: bytes, w: typing.Literal['a'], u: tuple[int, ...]): return draft(x)",
    "class Brief: ...\n@flow\ndef main(x: Brief | str): return draft(x)",
    "class Brief:\n    @classmethod\n    def __get_pydantic_core_schema__(cls, a, b): ...\n"
    "@flow\ndef main(x: Brief): return draft(x)",
    "TEXT = '\u200f\u05d0'\n@checkpoint\ndef use(): pass" + USE,
]


@pytest.mark.parametrize(("code", "imports", "body"), BAD_BODIES)
def test_a_bad_body_is_found_in_its_place(
    code: str, imports: str, body: str, tmp_path: Path
) -> None:
    source, place = marked(in_flow(imports, body))
    assert places(tmp_path, source) == [f"{code} {place}"]


@pytest.mark.parametrize(("imports", "body"), GOOD_BODIES)
def test_a_good_body_is_left_alone(imports: str, body: str, tmp_path: Path) -> None:
    assert places(tmp_path, in_flow(imports, body)) == []


@pytest.mark.parametrize(("code", "text"), BAD_MODULES)
def test_a_bad_definition_is_found_in_its_place(code: str, text: str, tmp_path: Path) -> None:
    source, place = marked(PRELUDE + text + "\n")
    assert places(tmp_path, source) == [f"{code} {place}"]


@pytest.mark.parametrize("text", GOOD_MODULES)
def test_a_good_definition_is_left_alone(text: str, tmp_path: Path) -> None:
    assert places(tmp_path, PRELUDE + text + "\n") == []


def test_every_rule_has_a_bad_program_and_its_severity() -> None:
    assert {code for code, *_ in [*BAD_BODIES, *BAD_MODULES]} == set(SEVERITIES)
    assert {code: catalogue.load(code).severity for code in SEVERITIES} == SEVERITIES


def test_a_checkpoint_of_two_flows_and_of_another_module_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(
        "from kitaru import checkpoint\n@checkpoint\ndef use(x=[]): return x\n"
    )
    flows = "from kitaru import flow\nimport parts\n"
    flows += "".join(f"@flow\ndef {name}(): return parts.use()\n" for name in ("one", "two"))
    assert places(tmp_path, flows) == ["KIT206 3:11-3:13"]


def test_the_second_place_says_where_the_id_was_taken(tmp_path: Path) -> None:
    body = "draft(1, id='one')\nreturn draft(2, id='one')"
    (tmp_path / "flow.py").write_text(in_flow("", body))
    (found,) = check(tmp_path / "flow.py")[0]
    ((span, label),) = found.related
    assert (span.line, span.column, label) == (9, 17, "taken here")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_need_no_advice(path: Path) -> None:
    assert [d for d in check(path)[0] if d.code in SEVERITIES] == []
