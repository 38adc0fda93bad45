"""Makes async flows: async twins of the generated programs, with tasks, groups and timeouts.

    nice -n 15 python -m tests.differential.asynchronous --seed 1 --count 1000
    nice -n 15 python -m tests.differential.asynchronous --seed 1 --count 100 --real

With `--real`, they also run on the real engine and store: here, killed at every record, and as the
dry run of each target.

The twin of a program has async checkpoints and helpers, whose calls are awaited. Where Python
allows no `await`, as in a lambda, it calls plain checkpoints instead (`ca_now` for `ca`). A program
that disagrees is printed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.differential.constructs import Draw
from tests.differential.programs import NAMES, OTHER, PRELUDE, STARTS, Calm, Traced

NOW = "_now"
_ONLY_ASYNC = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
EXTRA = """
import asyncio
from kitaru import aio

@checkpoint
async def aa(x=0): return [str(x)]
@checkpoint
async def ab(x=0, y=1): return len(str(x)) + len(str(y))
@checkpoint
async def aboom(x=0): raise ValueError(f"boom {x}")
@checkpoint
async def hang(x=0): await asyncio.sleep(3600)

async def worker(x):
    v = await ab(x)
    return await aa(v)

async def twice(x, y=1):
    if await ab(x) > 2:
        return await aa(y)
    return await asyncio.gather(ab(x), ab(y))

async def numbers(x):
    for v in (1, 2):
        yield await ab([v, x])

def starts(x): return aa(x)
"""


def async_twin(source: str, also: frozenset[str] = frozenset()) -> str:
    """Return the async twin of a module; `also` are the async functions of other modules."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    checkpoints = {f.name for f in functions if _decorated(f, "checkpoint")}
    plain = {f.name for f in functions if not f.decorator_list}
    calling = _calling(functions, checkpoints | also) & plain
    later = checkpoints | calling
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in later:
            body.append(_as_async(node, later | also))
            now = copy.deepcopy(node)
            now.name += NOW
            if any(map(_is_only_async, ast.walk(now))):
                now.body = ast.parse("return 0").body
            body.append(_Now(later | also).visit(now))
        elif isinstance(node, ast.FunctionDef) and _decorated(node, "flow"):
            body.append(_as_async(node, later | also))
        else:
            body.append(_Now(later | also).visit(node))
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, [])))


def async_names(source: str) -> frozenset[str]:
    """Return the functions of a module that its twin makes async."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    checkpoints = {f.name for f in functions if _decorated(f, "checkpoint")}
    plain = {f.name for f in functions if not f.decorator_list}
    return frozenset(checkpoints | _calling(functions, checkpoints) & plain)


def _is_only_async(node: ast.AST) -> bool:
    return isinstance(node, _ONLY_ASYNC) or bool(getattr(node, "is_async", False))


def _decorated(function: ast.FunctionDef, by: str) -> bool:
    return any(by in ast.unparse(one) for one in function.decorator_list)


def _calling(functions: list[ast.FunctionDef], known: set[str] | frozenset[str]) -> set[str]:
    found: set[str] = set()
    while True:
        more = {f.name for f in functions if _named(f) & (known | found)}
        if more <= found:
            return found
        found |= more


def _named(node: ast.AST) -> set[str]:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _as_async(node: ast.FunctionDef, later: frozenset[str] | set[str]) -> ast.AsyncFunctionDef:
    made = ast.AsyncFunctionDef(**{name: getattr(node, name) for name in node._fields})
    made.body = [_Awaiting(frozenset(later)).visit(stmt) for stmt in made.body]
    return made


class _Now(ast.NodeTransformer):
    """Calls the plain twins: for code that cannot await."""

    def __init__(self, later: frozenset[str] | set[str]) -> None:
        self._later = later

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._later and isinstance(node.ctx, ast.Load):
            node.id += NOW
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if (
            node.attr in self._later
            and isinstance(node.value, ast.Name)
            and node.value.id == "other"
        ):
            node.attr += NOW
        return node


class _Awaiting(ast.NodeTransformer):
    """Awaits the calls of an async function."""

    def __init__(self, later: frozenset[str]) -> None:
        self._later = later

    def visit_Await(self, node: ast.Await) -> ast.expr:
        self.generic_visit(node)
        return node.value if isinstance(node.value, ast.Await) else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        func = node.func
        root = ast.unparse(func)
        if root.startswith(("kitaru.wait", "kitaru.memory", "kitaru.llm")):
            node.func = ast.parse(root.replace("kitaru.", "kitaru.aio."), mode="eval").body
            node.args = [self.visit(one) for one in node.args]
            node.keywords = [self.visit(one) for one in node.keywords]
            return ast.Await(node)
        name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        known = isinstance(func, ast.Name) or root.startswith("other.")
        if name in self._later and known:
            node.args = [self.visit(one) for one in node.args]
            node.keywords = [self.visit(one) for one in node.keywords]
            return ast.Await(node)
        if name in ("result", "load") and isinstance(func, ast.Attribute) and not node.args:
            if root.startswith("t"):  # a task
                return node
            return ast.Await(self._future(func.value))
        if name in ("submit", "map", "product") and isinstance(func, ast.Attribute):
            return self._future(node)
        self.generic_visit(node)
        return node

    def _future(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Call(func=ast.Attribute(attr="submit" | "map" | "product")):
                node.args = [self.visit(one) for one in node.args]
                node.keywords = [self.visit(one) for one in node.keywords]
                return node
        return self.visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _Now(self._later).visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        node.body = _Now(self._later).visit(node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        node.body = [_Now(self._later).visit(stmt) for stmt in node.body]
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        node.body = [self.visit(stmt) for stmt in node.body]
        return node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        first = self.visit(node.generators[0].iter)
        found: Any = node if _awaits(node.elt) else _Now(self._later).visit(node)
        found.generators[0].iter = first
        return found  # type: ignore[no-any-return]


def _awaits(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Name) and n.id in ("aa", "ab") for n in ast.walk(node))


class _Async:
    """Adds statements that only async flows have."""

    draw: Any
    one: Any
    name: Any
    atom: Any
    expr: Any
    # Whether the result must not depend on the order in which calls end.
    calm = False

    def statement(self, depth: int) -> list[str]:
        if not self.one(1, 0, 0):
            return super().statement(depth)  # type: ignore[misc,no-any-return]
        return self.tasks()

    def tasks(self) -> list[str]:
        """Return statements with tasks, coroutines and what awaits them."""
        one, name, e, atom = self.one, self.name, lambda: self.expr(1), self.atom
        items = one("(1, 2)", "xs", "['x', 'y']", "()", "glue([3, 4])", f"[{atom()}]")
        call = one(f"aa({e()})", f"ab({e()}, y={atom()})", f"ab({atom()})", f"aa({name()})")
        other = one(f"aa({atom()})", f"ab({e()})", f"worker({atom()})", f"aboom({atom()})")
        beside = one(
            "", "", f"glue({name()})", f"{name()} = await {call}", f"{name()} = {atom()}",
            "await asyncio.sleep(0)", "xs = [0]",
        )  # fmt: skip
        n = name()
        forms = [
            lambda: [f"{n} = await asyncio.gather({call}, aa({atom()}))"],
            lambda: [f"b, c = await asyncio.gather({call}, ab({atom()}))"],
            lambda: [f"xs = await asyncio.gather(*[ab(v) for v in {items}])"],
            lambda: [f"{n} = sum(await asyncio.gather(*(ab(v) for v in {items}), ab({e()})))"],
            lambda: [f"{n} = [h for h in await asyncio.gather(*[aa(v) for v in {items} if v])]"],
            lambda: [f"glue(await asyncio.gather({call}, {call}, return_exceptions=True))"],
            lambda: [
                "async with asyncio.TaskGroup() as g:",
                f"    t = g.create_task({call})",
                f"    t2 = g.create_task(ab({atom()}), name='two')",
                beside,
                f"{n} = (t.result(), t2.result())",
            ],
            lambda: [
                "hs = []",
                "async with asyncio.TaskGroup() as g:",
                f"    t = [g.create_task(ab(v)) for v in {items}]",
                f"    hs.append(g.create_task({call}))",
                f"{n} = [t3.result() for t3 in t + hs]",
            ],
            lambda: [f"t = asyncio.create_task({call})", beside, f"{n} = await t"],
            lambda: (
                [
                    f"t = asyncio.create_task({other})",
                    beside,
                    "await asyncio.wait([t])",
                    f"{n} = str(t.exception() or t.result())",
                ]
            ),
            lambda: [f"{n} = await asyncio.gather(worker({e()}), worker({atom()}))"],
            lambda: [f"{n} = await twice({e()}, y={atom()})"],
            lambda: (
                [
                    "d = 0",
                    "for q in asyncio.as_completed([ab(v) for v in (1,)]):",
                    "    d += await q",
                ]
            ),
            lambda: [
                "try:",
                f"    d = await asyncio.gather({call}, {other})",
                "except ValueError as d:",
                f"    {n} = await aa(str(d))",
            ],
            lambda: (
                [
                    f"{n} = await asyncio.gather(aboom(1), {call}, return_exceptions=True)",
                    f"{n} = [str(h) for h in {n}]",
                ]
            ),
            lambda: (
                [
                    "async with asyncio.timeout(60):",
                    f"    {n} = await {call}",
                    f"    {beside or 'pass'}",
                ]
            ),
            lambda: [
                "try:",
                "    async with asyncio.timeout(0.01):",
                f"        {n} = await {call}; d = await hang()",
                "except TimeoutError:",
                f"    {one('d = 1', f'd = await ab({atom()})')}",
            ],
            lambda: [f"k = {call}", beside, f"{n} = await k"],
            lambda: (
                [f"k = [aa({atom()}), ab({e()})]", beside, f"{n} = [await h for h in k]", "del k"]
            ),
            lambda: [f"k = (lambda v: aa(v))({e()})", beside, f"{n} = await k"],
            lambda: [f"{n} = await starts({e()})"],
            lambda: (
                [
                    "n = 0",
                    "async def count(v):",
                    "    nonlocal n",
                    "    n += await ab(v)",
                    f"t = asyncio.create_task(count({atom()}))",
                    beside,
                    "await t",
                    f"{n} = n",
                ]
            ),
            lambda: (
                [
                    f"async def each(v, w={atom()}): return await aa([v, w])",
                    f"{n} = await asyncio.gather(each(1), each({e()}))",
                ]
            ),
            lambda: [f"async for v in numbers({atom()}):", f"    {n} = await ab(v)"],
            lambda: [f"{n} = [v async for v in numbers({atom()})]"],
            lambda: [f"{n} = await asyncio.wait_for({call}, 60)"],
            lambda: [f"{n} = await asyncio.gather(aio.wait(name='ok'), {call})"],
            lambda: [f"{n} = await aio.wait(name='number')"],
            lambda: [f"f = aa.submit({e()})", beside, f"{n} = await f"],
            lambda: [f"{n} = await ab.map({items})"],
            lambda: [f"f = ab.map({items})", beside, f"{n} = [await h for h in f]"],
            lambda: [f"{n} = [await ab(v) for v in {items}]"],
            lambda: [f"if await ab({e()}) > 2: {n} = await aa({atom()})"],
            lambda: [f"for v in {items}:", f"    {n} = await asyncio.gather(aa(v), {call})"],
            lambda: (
                [
                    "async with asyncio.TaskGroup() as g:",
                    f"    for v in {items}:",
                    f"        g.create_task(aa({one('v', 'xs', n)}))",
                ]
            ),
            lambda: (
                [
                    "t = [asyncio.create_task(ab(v)) for v in (1, 2)]",
                    "done, rest = await asyncio.wait(t)",
                    f"{n} = sorted(t3.result() for t3 in done)",
                ]
            ),
            lambda: [f"{n} = [(await aa(v), {atom()}) for v in {items}]"],
            lambda: [f"{n} = await (aa if {atom()} else ab)({e()})"],
            lambda: [f"while not (n := await ab({atom()})): pass"],
        ]
        found: list[str] = forms[self.draw(_Index(len(forms)))]()
        return [line for line in found if line]


class _Index:
    """A range of numbers for `Draw`."""

    start = 0

    def __init__(self, count: int) -> None:
        self.end = count - 1


class AsyncTraced(_Async, Traced):
    """Writes what `Traced` writes, and tasks."""


class AsyncCalm(_Async, Calm):
    """Writes what `Calm` writes, and tasks."""


def program(seed: int) -> str:
    """Return the source of a module with one async flow, `main(a, xs)`."""
    draw = Draw(seed)
    writer: Any = (AsyncTraced, AsyncCalm)[seed % 2](draw)
    lines: list[str] = []
    for number in range(seed % 3):
        lines += writer.helper(f"h{number}")
    body = [f"{name} = {value}" for name, value in (*STARTS, ("v", "0"), ("xs", "[1, 2]"))]
    body += writer.block(2, 2 + seed % 4)
    body += [f"trace(repr({name}))" for name in (*NAMES, "v")]
    lines += ["@flow", "def main(a=1, xs=()):", *("    " + line for line in body)]
    source = PRELUDE + EXTRA + "\n".join(lines) + "\n"
    return async_twin(source, async_names(OTHER))


BESIDE = {"other.py": async_twin(OTHER)}
INPUTS: dict[str, Any] = {"a": 1, "xs": [3, 4]}
TARGETS = ("airflow", "azureml", "kubeflow", "sagemaker", "vertex", "kubernetes")


def disagreement(seed: int) -> str:
    """Return the program of a seed if it does not mean the same cut, otherwise an empty string."""
    from tests.differential.harness import compile_text, run_cut, run_plain

    source = program(seed)
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        return ""
    compilation, path = compile_text(source, "checkpoint", BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    for every in (False, True):
        cut = run_cut(compilation, path, INPUTS, everywhere=every)
        if cut.same() != plain.same():
            shown = source.partition("def starts")[2]
            return f"# seed {seed}\n{shown}\n{compilation.steps_py}\n{plain}\n{cut}"
    return ""


# In real time, the calls before the one that hangs must end.
_SHORT, _LONG = "timeout(0.01)", "timeout(0.7)"


def real_disagreement(seed: int, folder: Path, targets: Sequence[str], *, kills: bool) -> str:
    """Return how the runs of a seed's program on the real engine differ, or an empty string.

    `targets` are those whose dry runs are compared with the run here.
    """
    from tests.differential.real import TRACE, run_dry, run_here
    from tests.differential.test_killed_runs import check_killed
    from tests.differential.test_real_runs import answer

    source = program(seed).replace(_SHORT, _LONG)
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        return ""
    found = []
    if kills:
        killed = folder / "killed"
        killed.mkdir()
        try:
            check_killed(killed, source, BESIDE["other.py"], is_concurrent=True)
        except AssertionError as error:
            found.append(f"killed: {error}")
    path = folder / f"program_{folder.name.replace('-', '_')}.py"
    path.write_text(source + TRACE, encoding="utf-8")
    (folder / "other.py").write_text(BESIDE["other.py"] + TRACE, encoding="utf-8")
    here = run_here(path, "main", INPUTS, answer, folder) if targets else None
    for target in targets:
        dry = run_dry(path, "main", INPUTS, answer, folder, target)
        if dry != here:
            found.append(f"{target}:\n{here}\n{dry}")
    shown = source.partition("def starts")[2]
    return "\n".join([f"# seed {seed}", shown, *found]) if found else ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential.asynchronous")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    start, failures = time.monotonic(), 0
    for seed in range(given.seed, given.seed + given.count):
        found = disagreement(seed)
        if given.real and not found:
            with tempfile.TemporaryDirectory() as folder:
                found = real_disagreement(seed, Path(folder), TARGETS, kills=True)
        if found:
            failures += 1
            sys.stdout.write(f"{found}\n")
    seconds = time.monotonic() - start
    shown = f"{given.count} programs from seed {given.seed}, {failures} disagree, {seconds:.0f} s"
    sys.stdout.write(f"{shown}\n")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
