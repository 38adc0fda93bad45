"""Every loop of the tests, examples and benchmarks ends, also where the code under test does not.

A `while` is bounded if it looks at the clock, takes from a list of work, counts, reads a stream to
its end, or walks a chain. All others wait for the code under test: `wait_until` and `attempts` of
`tests.waiting` fail where that never comes. In sources inside strings, only loops that just wait
are checked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.waiting import attempts, wait_until

from .conftest import ROOT, tracked

# Flows as people write them. A test runs them with answers that end them.
FLOWS = (
    "tests/airflow/flows/",
    "tests/asynchronous/programs.py",
    "tests/field/",
    "tests/samples/",
)
# Its clock is simulated, and each run of it ends at a time.
SIMULATED = ("tests/dispatch/world.py", "tests/dispatch/schedules.py", "tests/simulation/")
EXCEPTIONS = {
    "examples/agents/desk_plain.py:support": "ends with the questions of its agent",
    "tests/asynchronous/sweep.py:": "programs that a watchdog ends",
    "tests/asynchronous/sweep.py:work": "a task that its program cancels",
    "tests/asynchronous/test_cancellation.py:in_a_loop_over_a_queue": "its test cancels it",
    "tests/cli/test_render.py": "a source that is compiled and never run",
    "tests/compat/test_examples.py": "programs as users have them, run with a time limit",
    "tests/compiler/test_tracebacks.py:run": "a block's successor is always a later block",
    "tests/differential/asynchronous.py:_calling": "adds a function each round",
    "tests/differential/documents.py:_run": "a block's successor is always a later block",
    "tests/differential/harness.py:_steps": "asserts that control never jumps back",
    "tests/differential/test_async_steps.py:run": "a block's successor is always a later block",
    "tests/dispatch/events.py:notify": "a simulated process, which ends with its run",
    "tests/fire/explore.py:_run": "walks to the root of a tree",
    "tests/fire/faults.py:_bury": "asserts that each thread ends",
    "tests/fork_server.py:serve": "ends with its standard input",
    "tests/journal/schedules.py:run": "each round is one operation of a process",
    "tests/journal/test_waiting.py:pages": "the list of waits is finite, and each page has some",
    "tests/oracles/test_stepfunctions.py:run": "ended by its test, whatever happens there",
    "tests/project/test_circles.py:circles": "removes a circle each round",
    "tests/project/test_loops.py": "the examples below",
    "tests/sdk/test_checkpoint.py:polling": "a flow whose handle waits for a limited time",
    "tests/stores/test_backup.py:write": "ended by its test, whatever happens there",
}
CLOCKS = {"monotonic", "perf_counter"}
TAKES = {"pop", "popleft", "popitem", "read", "readline", "recv"}
Loop = tuple[str, ast.While]


def loops(tree: ast.AST, function: str = "") -> Iterator[Loop]:
    """Return each `while` with the name of the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.While):
            yield function, node
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from loops(node, node.name if is_function else function)


def is_bounded(loop: ast.While) -> bool:
    """Whether the loop ends whatever the calls inside of it return."""
    names = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
    return any(_makes_progress(node, names) for node in ast.walk(loop))


def _makes_progress(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in TAKES | CLOCKS
        case ast.AugAssign(target=ast.Name(name)):
            return name in names
        case ast.NamedExpr(target=ast.Name(name), value=ast.BinOp() as value):
            return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value))
        case ast.Assign(targets=[ast.Name(name)], value=value):
            return name in names and _is_link(value)
        case ast.Assign(targets=[ast.Tuple([ast.Name(name), *_])], value=ast.Tuple([value, *_])):
            return name in names and _is_link(value)
    return False


def _is_link(value: ast.AST) -> bool:
    """Whether a value is the next one of a chain, such as `error.__cause__`."""
    if isinstance(value, ast.BoolOp):
        return all(_is_link(part) for part in value.values)
    return isinstance(value, ast.Attribute | ast.Subscript)


def only_waits(loop: ast.While) -> bool:
    """Whether the loop does nothing itself: it passes or sleeps."""
    return all("sleep(" in ast.unparse(line) or isinstance(line, ast.Pass) for line in loop.body)


def in_strings(tree: ast.AST) -> Iterator[Loop]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value) if "while " in node.value else None
            except SyntaxError:
                continue
            if inner is not None:
                yield from (found for found in loops(inner) if only_waits(found[1]))


def unbounded(source: str) -> list[str]:
    """Return the functions with a loop that may never end."""
    tree = ast.parse(source)
    return [name for name, loop in [*loops(tree), *in_strings(tree)] if not is_bounded(loop)]


def test_every_loop_ends() -> None:
    paths = tracked("tests/*.py", "examples/*.py", "benchmarks/*.py")
    names = {path.relative_to(ROOT).as_posix(): path for path in paths}
    found = {
        name if name in EXCEPTIONS else f"{name}:{function}"
        for name, path in names.items()
        if not name.startswith((*FLOWS, *SIMULATED))
        for function in unbounded(path.read_text())
    }
    assert found - EXCEPTIONS.keys() == set(), "use tests.waiting"
    assert EXCEPTIONS.keys() - found == set(), "these loops are gone, or bounded"


@pytest.mark.parametrize(
    "source",
    [
        "while handle.status == 'running': pass",
        "while not path.exists(): time.sleep(1)",
        "while code == -9: code = run()",
        "while True: pages.append(page())",
        "X = '''\nwhile not Path('go').exists(): time.sleep(1)\n'''",
    ],
)
def test_a_loop_that_may_never_end_is_found(source: str) -> None:
    assert unbounded(source)


@pytest.mark.parametrize(
    "source",
    [
        "while not found() and time.monotonic() < end: pass",
        "while pending: seen.add(pending.pop())",
        "while data := source.recv(1): send(data)",
        "while number < 3: number += 1",
        "while (moment := moment + step) < end: send(moment)",
        "while error: error = error.__cause__ or error.__context__",
    ],
)
def test_a_loop_that_ends_is_not(source: str) -> None:
    assert not unbounded(source)


def test_waiting_ends() -> None:
    with pytest.raises(AssertionError, match="not so after 0"):
        wait_until(lambda: False, seconds=0)
    with pytest.raises(AssertionError, match="no end after 3 attempts"):
        for _ in attempts(3):
            pass
