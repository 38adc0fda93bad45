"""No test depends on how fast the machine is: whatever waits for real work may take a minute.

A limit below `SHORTEST` seconds fails on a busy machine sooner or later, and a pause outside of a
loop waits for a moment instead of for a condition. Use `tests.waiting`, or say in `EXCEPTIONS` why
the limit cannot decide whether a test passes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from .conftest import ROOT, tracked

SHORTEST = 60
# Flows as people write them, and a clock that is simulated.
ELSEWHERE = (
    "tests/asynchronous/programs.py",
    "tests/field/",
    "tests/samples/inngest",
    "tests/samples/temporal",
    "tests/simulation/",
)
EXCEPTIONS = {
    "tests/airflow/server.py:_end": "a process that outlives it is killed",
    "tests/api/test_binding.py:": "calls that are bound and never made",
    "tests/sdk/test_time.py:test_wrong_times_are_refused": "it is refused",
    **dict.fromkeys(
        (
            f"tests/asynchronous/test_cancellation.py:{name}"
            for name in ("closed", "inner", "outer", "slowly")
        ),
        "parts of programs that are cancelled, at any moment",
    ),
    "tests/asynchronous/test_flows.py:hangs": "never ends before",
    "tests/asynchronous/test_flows.py:later": "the wait is open before, or the case is the simpler",
    "tests/compat/test_names.py:first": "the other one must not begin, however long this takes",
    "tests/differential/test_async_steps.py:": "programs whose calls are cancelled",
    "tests/diagnostics/test_agents.py:": "programs that are compiled and never run",
    "tests/fire/wire.py:": "for answers that never come; no test has one",
    "tests/journal/test_cache.py:beside": "the other thread must not end, however long this takes",
    "tests/llm/test_usage.py:ask_briefly": "counts from the moment that `time_hangs` returns",
    "tests/logs/test_capture.py:test_a_store_that_hangs_costs_memory_only_up_to_a_bound": "hangs",
    "tests/project/test_forks.py:": "a thread that ends after its program",
    "tests/project/test_forks.py:test_a_command_that_takes_too_long_is_killed": "takes longer",
    "tests/samples/test_endings.py:answers": "a pause between two looks",
    "tests/samples/test_endings.py:test_a_flow_that_continues_after_its_script_may_use_a_pool": (
        "the script ends before, or the case is the simpler one"
    ),
    "tests/project/test_time_limits.py:test_a_short_limit_is_found": "the examples below",
    "tests/schema/test_validation.py:test_each_type_has_a_schema_that_its_own_values_fit": "data",
    "tests/sdk/test_cancel.py:test_a_body_that_looks_for_an_answer_ends": "a pause between looks",
    "tests/sdk/test_flow.py:test_run_returns_at_once_and_get_waits_for_nobody": "never ends before",
    "tests/sdk/test_loop.py:hangs": "counts from the moment that `time_hangs` returns",
    "tests/sdk/test_retries.py:hangs": "counts from the moment that `time_hangs` returns",
    "tests/sdk/test_retries.py:hangs_asleep": "counts from the moment that `time_hangs` returns",
    "tests/sdk/test_waits.py:test_what_was_submitted_is_recorded_before_the_process_ends": (
        "the process ends before, or the case is the simpler one"
    ),
    "tests/stores/test_bucket_faults.py:hasty": "for answers that never come",
}
WAITING = {"acquire", "communicate", "join", "result", "settle", "sleep", "wait"}


def limits(node: ast.AST, function: str = "", in_loop: bool = False) -> Iterator[tuple[str, str]]:
    """Return each short limit or pause with the name of the function that it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and is_short(child, in_loop):
            yield function, ast.unparse(child)
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        loops = isinstance(child, ast.While | ast.For) or in_loop
        yield from limits(child, child.name if named else function, loops and not named)


def is_short(call: ast.Call, in_loop: bool) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    if name == "sleep":
        # A timer of a flow that is compiled is no pause of a test.
        in_loop |= ast.unparse(call.func) == "kitaru.sleep"
        return not in_loop and any(_is_short(value) for value in call.args)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    given = [value for key, value in named.items() if key in ("timeout", "seconds")]
    return any(_is_short(value) for value in given + call.args[: name in WAITING])


def _is_short(value: ast.expr) -> bool:
    number = value.value if isinstance(value, ast.Constant) else None
    return isinstance(number, int | float) and 0 < number < SHORTEST


def in_source(source: str) -> list[tuple[str, str]]:
    """Return the short limits of a source, and of the sources in its strings."""
    tree = ast.parse(source)
    found = [*limits(tree)]
    for function, node in _strings(tree):
        try:
            inner = ast.parse(node.value)
        except (SyntaxError, ValueError):
            continue
        found += [(function, text) for _, text in limits(inner)]
    return found


def _strings(node: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Constant]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and "(" in child.value:
            yield function, child
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _strings(child, child.name if named else function)


def test_no_limit_is_short() -> None:
    found = {
        f"{name}:{function}": text
        for path in tracked("tests/*.py")
        if not (name := path.relative_to(ROOT).as_posix()).startswith(ELSEWHERE)
        for function, text in in_source(path.read_text())
    }
    short = {place: text for place, text in found.items() if place not in EXCEPTIONS}
    assert short == {}, "use tests.waiting"
    assert EXCEPTIONS.keys() - found.keys() == set(), "these limits are gone"


@pytest.mark.parametrize(
    "source",
    [
        "process.communicate(timeout=20)",
        "assert gate.wait(10)",
        "store = open_store(url, limit=timedelta(seconds=1))",
        "wait_until(found, seconds=5)",
        "def test():\n    time.sleep(0.5)",
        "for n in range(3):\n    def work(): time.sleep(1)",
        "X = 'thread.join(5)'",
    ],
)
def test_a_short_limit_is_found(source: str) -> None:
    assert in_source(source)


@pytest.mark.parametrize(
    "source",
    [
        "gate.wait(60)",
        "handle.wait(timeout=0)",
        "', '.join(names)",
        "for _ in attempts():\n    time.sleep(0.1)",
        "time.sleep(3600)",
    ],
)
def test_what_cannot_be_too_short_is_not(source: str) -> None:
    assert not in_source(source)


def test_a_process_is_stopped_only_when_it_does_not_lock_its_store() -> None:
    # `tests.waiting.stop` does; elsewhere a lock would stay until the process continues.
    found = [p for p in tracked("tests/*.py") if "signal.SIGSTOP" in p.read_text("utf-8")]
    own = {ROOT / "tests/waiting.py", ROOT / "tests/project/test_time_limits.py"}
    assert set(found) <= own
