"""Calls of Kitaru's own API: `check` reports what Python refuses, and nothing else.

The generator writes one call at a time, breaks it in every way that it knows, runs the source in
this process, and compares: TypeError, AttributeError, ImportError or UsageError when it runs, and
an error of `check`, must occur together.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import check
from kitaru_compiler.frontend.api import Api, Argument

from kitaru.errors import KitaruError

ROOT = Path(__file__).resolve().parents[2]
API = Api()
CODES = {"KIT411", "KIT412", "KIT413"}
PRELUDE = """\
import kitaru
from kitaru import KitaruClient, checkpoint, flow, memory

@checkpoint
def ck(x, y=1, *, z=2): return x

@flow
def fl(x, y=1): return x
"""
# A callee, and a call of it that binds. Each is called outside a flow: a call that binds ends in
# ContextError, NotFound or a result, never in TypeError.
CALLEES = {
    "checkpoint": "checkpoint(name='a')",
    "flow": "flow(name='a')",
    "kitaru.wait": "kitaru.wait(name='a')",
    "kitaru.llm": "kitaru.llm('a', model='m')",
    "kitaru.save": "kitaru.save('a', 1)",
    "kitaru.load": "kitaru.load('a', 'b')",
    "kitaru.secret": "kitaru.secret('A_SECRET')",
    "kitaru.idempotency_key": "kitaru.idempotency_key()",
    "memory.get": "memory.get('a')",
    "memory.set": "memory.set('a', 1)",
    "memory.list": "memory.list()",
    "memory.history": "memory.history('a')",
    "memory.delete": "memory.delete('a')",
    "memory.purge": "memory.purge('a')",
    "ck": "ck(1, z=3)",
    "ck.submit": "ck.submit(1)",
    "fl": "fl(1)",
    "fl.run": "fl.run(1)",
    "fl.options": "fl.options(cache=False)",
    "fl.resume": "fl.resume('a')",
    "fl.replay": "fl.replay('a')",
    "KitaruClient": "KitaruClient()",
    "KitaruClient().executions.get": "KitaruClient().executions.get('a')",
    "KitaruClient().executions.list": "KitaruClient().executions.list(limit=1)",
    "KitaruClient().executions.input": "KitaruClient().executions.input('a', 1)",
    "KitaruClient().executions.replay": "KitaruClient().executions.replay('a')",
    "KitaruClient().executions.cancel": "KitaruClient().executions.cancel('a')",
    "KitaruClient().deployments.get": "KitaruClient().deployments.get('a')",
    "KitaruClient().memory.get": "KitaruClient().memory.get('a', scope='namespace:n')",
}
DECORATORS = ("checkpoint", "flow")
IN_FLOWS = ("ck", "ck.submit", "fl")
REFUSED = (TypeError, AttributeError, ImportError, KitaruError)


def found(folder: Path, statement: str, prelude: str = PRELUDE) -> list[Any]:
    path = folder / "program.py"
    path.write_text(f"{prelude}\n{statement}\n", encoding="utf-8")
    return [d for d in check(path, "fl")[0] if d.code in CODES]


def refusal(statement: str) -> BaseException | None:
    """Return what Python raises where the arguments of a call are bound, None when they bind."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(PRELUDE, namespace)
    try:
        exec(statement, namespace)
    except (TypeError, AttributeError, ImportError) as error:
        return error
    except KitaruError as error:
        # What a flow's body raises is the cause. Any other error comes after the arguments bound.
        cause = error.__cause__
        return cause if isinstance(cause, TypeError) else error if _is_input(error) else None
    return None


def _is_input(error: KitaruError) -> bool:
    return type(error).__name__ == "InputError"


def in_flow(statement: str) -> str:
    """Return a flow that makes a call in its body, and runs."""
    return f"@flow\ndef main():\n    {statement}\nmain.run().wait()"


def broken(callee: str, call: str) -> list[str]:
    """Return a call with each thing changed that may keep it from binding."""
    inside = call[len(callee) + 1 : -1]
    given = [part for part in inside.split(", ") if part]
    positional = [part for part in given if "=" not in part]
    keywords = [part for part in given if "=" in part]

    def written(*parts: str) -> str:
        return f"{callee}({', '.join(parts)})"

    changed = [
        written(*given),
        written(*given, "no_such_option=1"),
        written(*positional, *["1"] * 9, *keywords),
        written(*keywords),
    ]
    changed += [written(*positional[:-1], *keywords)] if positional else []
    changed += [written(*positional, keyword.replace("=", "_=", 1)) for keyword in keywords]
    return changed


@pytest.mark.parametrize("callee", CALLEES)
def test_check_reports_what_python_refuses(
    callee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for statement in broken(callee, CALLEES[callee]):
        if callee in DECORATORS:
            statement = f"{statement}(lambda x: x)"
        if callee in IN_FLOWS:
            statement = in_flow(statement)
        refused, reported = refusal(statement), found(tmp_path, statement)
        assert bool(reported) == bool(refused), (statement, refused, reported)


def options_of(name: str) -> list[Argument]:
    signature = API.signature(API.member(name))  # type: ignore[arg-type]
    assert signature is not None
    return [a for a in signature.arguments if a.kind == "keyword_only"]


WRONG = {"text": "'x x'", "number": "3", "list": "[1]", "dict": "{'a': 1}", "none": "None"}


@pytest.mark.parametrize("decorator", ["checkpoint", "flow"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_literal_that_check_refuses_is_refused_by_the_decorator(
    decorator: str, kind: str, tmp_path: Path
) -> None:
    for option in options_of(decorator):
        statement = f"@{decorator}({option.name}={WRONG[kind]})\ndef other(x): return x"
        if not [d for d in found(tmp_path, statement) if d.code == "KIT413"]:
            continue
        with pytest.raises(REFUSED):
            exec(f"{PRELUDE}\n{statement}", {"__name__": "program"})


BAD = [
    "from kitaru import «Nothing»",
    "from kitaru import flow, «waitt as w»",
    "from kitaru.errors import «Nothing»",
    "«kitaru.pause»(3)",
    "«memory.gett»('a')",
    "k = kitaru\n«k.pause»(3)",
    "handle = fl.run(1)\n«handle.wiat»()",
    "«fl.run(1).wiat»()",
    "fl.options(«cahce=True»).run(1)",
    "fl.options(cache=True).run(1, «w=1»)",
    "client = KitaruClient()\n«client.exections»",
    "client = KitaruClient()\n«client.executions.lattest»()",
    "def use():\n    client = KitaruClient()\n    return client.executions.get('a', «1»)",
    "def use():\n    import kitaru as k\n    k.save('a', 1, «tgas=[]»)",
    "def use():\n    def inner():\n        kitaru.save('a', 1, «tgas=[]»)\n    return inner",
    "class Holder:\n    def go(self):\n        kitaru.save('a', 1, «tgas=[]»)",
    "items = [kitaru.save('a', i, «tgas=[]») for i in range(3)]",
    "ck.map([1], [2], «[3]»)",
    "ck.map([1], «w=1»)",
    "ck(1, «x=2»)",
    "@checkpoint(«retrys=3»)\ndef other(): ...",
    "@kitaru.flow(«retrys=3»)\ndef other(): ...",
    "@checkpoint(retries=«'3'»)\ndef other(): ...",
    "@checkpoint(runtime=«'isolate'»)\ndef other(): ...",
    "@checkpoint(capture=«'some'»)\ndef other(): ...",
    "kitaru.llm('a', model=«3»)",
    "try:\n    kitaru.save('a', 1, «tgas=[]»)\nexcept Exception:\n    pass",
]


@pytest.mark.parametrize("source", BAD)
def test_the_place_of_what_is_wrong(source: str, tmp_path: Path) -> None:
    start, end = source.index("«"), source.index("»")
    plain = source.replace("«", "").replace("»", "")
    (one,) = found(tmp_path, plain)
    lines = (tmp_path / "program.py").read_text().splitlines()
    shown = lines[one.span.line - 1][one.span.column - 1 : one.span.end_column - 1]
    assert shown == source[start + 1 : end]
    assert one.severity == "error"


GOOD = [
    "try:\n    from kitaru import Nothing\nexcept ImportError:\n    Nothing = None",
    "from contextlib import suppress\nwith suppress(AttributeError):\n    kitaru.pause(1)",
    "if hasattr(kitaru, 'pause'):\n    kitaru.pause(1)",
    "kitaru.extra = 1\nprint(kitaru.extra)",
    "def use(kitaru): kitaru.pause(1)",
    "def use(memory): memory.gett(1)",
    "def use(client): client.executions.frob()",
    "def use(a):\n    client = KitaruClient()\n    client = a\n    client.frob()",
    "def use(a):\n    client = a or KitaruClient()\n    client.frob()",
    "def use():\n    for kitaru in []: kitaru.pause(1)",
    "def use(rows): return [memory.gett() for memory in rows]",
    "use = lambda kitaru: kitaru.pause(1)",
    "class A:\n    memory = 1\n    size = memory.real",
    "def use(args, options): return ck(*args, **options)",
    "def use(args, options): return kitaru.llm(*args, **options)",
    "print(fl.__name__, ck.__wrapped__, kitaru.__file__)",
    "ck(1, id='a')",
    "def use(value): kitaru.llm(value, model=value, retries=value)",
    "kitaru.log(anything=1, at='all')",
    "try:\n    kitaru.save('a', 1, tgas=[])\nexcept TypeError:\n    pass",
    "@checkpoint(timeout=3, retry_delay=1, cpu='500m', memory='1Gi')\ndef other(): ...",
    "@checkpoint(retry_on=(ValueError, OSError))\ndef other(): ...",
    "kitaru.llm([{'role': 'user', 'content': 'a'}])",
    "kitaru.wait(schema={'type': 'string'}, timeout=1, metadata={'a': 1})",
    "def use(kind): kitaru.llm('a', capture=f'{kind}')",
    "from kitaru.runtime.engine import futures\nfutures.Future",
    "import kitaru.errors\nkitaru.errors.UsageError('a', help='b')",
    "class Mine(kitaru.errors.KitaruError): ...\nMine('a').frob()",
    "fl.extra = 1\nfl.extra",
]


@pytest.mark.parametrize("source", GOOD)
def test_what_may_work_is_not_reported(source: str, tmp_path: Path) -> None:
    assert found(tmp_path, source) == []


def test_no_finding_in_the_examples_and_the_flows_of_the_tests() -> None:
    flows = [*(ROOT / "examples").glob("*.py"), *(ROOT / "tests/field/flows").glob("*.py")]
    assert len(flows) > 10
    for path in flows:
        assert [d for d in check(path)[0] if d.code in CODES] == [], path


def test_a_misspelt_decorator_is_reported_where_no_flow_is_found(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("from kitaru import flwo\n\n@flwo\ndef main(): ...\n")
    found = check(path)[0]
    assert [d.code for d in found] == ["KIT103", "KIT412"]
    assert found[1].help == "did you mean `flow`?"


def test_type_checkers_verify_the_options_of_decorators(tmp_path: Path) -> None:
    from mypy import api

    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent(
            """\
            from kitaru import checkpoint, flow

            @checkpoint(retries=3, runtime="isolated", timeout=1.5)
            def good(x: int) -> str: return str(x)

            @checkpoint(retrys=3)
            def bad(x: int) -> str: return str(x)

            @checkpoint(retries="3")
            def worse(x: int) -> str: return str(x)

            @flow(cahce=True)
            def main(x: int) -> str: return good(x)

            reveal_type(good(1))
            """
        )
    )
    out, _, _ = api.run(
        ["--no-incremental", f"--cache-dir={tmp_path}", "--python-version", "3.11", str(path)]
    )
    lines = {int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line}
    assert {6, 9, 12} <= lines and not lines & {3, 4, 13, 15}, out
    assert out.replace("builtins.", "").count('Revealed type is "str"') == 1
