"""Behaviours of flows and their handles: run, bind, wait, get, statuses, errors."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pydantic
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow


@checkpoint
def double(x: int) -> int:
    return x * 2


@flow
def doubled(x: int, *, plus: int = 1) -> int:
    return double(x) + plus


@dataclass
class Brief:
    title: str
    tags: tuple[str, ...]


class Review(pydantic.BaseModel):
    ok: bool
    notes: list[str] = []


@checkpoint
def same(value):
    return value


@flow
def echo(value):
    return same(value)


def test_called_directly_it_says_run() -> None:
    with pytest.raises(errors.UsageError, match=r"doubled\.run"):
        doubled(1)


def test_called_in_a_flow_it_runs_as_a_part_of_that_execution() -> None:
    @flow
    def outer(x: int) -> list[object]:
        return [echo(x), echo.function(value=x + 1), echo(x + 2)]

    handle = outer.run(1)
    assert handle.wait() == [1, 2, 3]
    ids = [record.id for record in KitaruClient().executions.get(handle.exec_id).invocations]
    assert ids == ["same", "same_2", "same_3"]


def test_called_in_a_checkpoint_it_is_refused() -> None:
    @checkpoint
    def inside(x):
        return echo(x)

    @flow
    def outer(x: int) -> object:
        return inside(x)

    with pytest.raises(errors.CheckpointFailed, match="flow echo was used inside the checkpoint"):
        outer.run(1).wait()


def test_inputs_are_bound_like_a_call() -> None:
    assert doubled.run(3).wait() == 7
    assert doubled.run(x=3, plus=5).wait() == 11


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "x"),
        ((1,), {"y": 2}, "y"),
        ((1, 2), {}, "doubled"),
        (("one",), {}, "x"),
        ((True,), {}, "x"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_runs(args, kwargs, named) -> None:
    with pytest.raises(errors.InputError, match=named):
        doubled.run(*args, **kwargs)
    assert KitaruClient().executions.list() == []


def test_an_input_that_cannot_be_recorded_is_named() -> None:
    with pytest.raises(errors.ValueNotEncodable) as found:
        echo.run({"lock": threading.Lock()})
    assert found.value.path == 'value["lock"]'


def test_json_inputs_become_what_the_annotations_say() -> None:
    @flow
    def reviewed(review: Review, brief: Brief, factor: float) -> list:
        return [type(review).__name__, review.ok, type(brief).__name__, factor]

    runner = reviewed.options()
    given = {"review": {"ok": True}, "brief": {"title": "t", "tags": ["a"]}, "factor": 2}
    assert runner.start(given).wait() == ["Review", True, "Brief", 2.0]
    with pytest.raises(errors.InputError, match="review"):
        runner.start({**given, "review": {"ok": "maybe"}})
    with pytest.raises(errors.InputError, match="factor"):
        runner.start({**given, "factor": "two"})


def test_run_returns_at_once_and_get_waits_for_nobody() -> None:
    gate = threading.Event()

    @checkpoint
    def held() -> int:
        gate.wait(60)
        return 1

    @flow
    def slow() -> int:
        return held()

    handle = slow.run()
    assert handle.status == "running"
    with pytest.raises(errors.StateError, match="running"):
        handle.get()
    with pytest.raises(errors.WaitTimeout):
        handle.wait(0.01)
    with pytest.raises(TimeoutError):
        handle.wait(timeout=0)
    gate.set()
    assert handle.wait() == 1
    assert (handle.get(), handle.status) == (1, "completed")


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, "two", (3.0, None)),
        {"a": [{"b": (1,)}], 2: {3, 4}},
        Brief("t", ("a", "b")),
        Review(ok=True, notes=["fine"]),
        [Brief("t", ()), {"deep": [Review(ok=False)]}],
    ],
)
def test_values_come_back_with_their_types(value) -> None:
    found = echo.run(value).wait()
    assert found == value
    assert type(found) is type(value)


def test_values_in_a_body_are_values() -> None:
    @flow
    def body(xs: list) -> str:
        kept = same(xs)
        a, *rest = kept
        if kept and len(kept) == 3:
            return f"{a}|{'-'.join(x for x in rest)}"
        return "no"

    assert body.run(["a", "b", "c"]).wait() == "a|b-c"


def test_an_exec_id_attaches_to_equal_inputs_and_refuses_others() -> None:
    assert doubled.options(exec_id="mine").run(1).wait() == 3
    assert doubled.options(exec_id="mine").run(1).wait() == 3
    with pytest.raises(errors.StateError, match="mine"):
        doubled.options(exec_id="mine").run(2)
    with pytest.raises(errors.UsageError):
        doubled.options(exec_id="No Good")


def test_options_do_not_clash_with_inputs() -> None:
    @flow
    def tricky(store: str, exec_id: str, cache: bool) -> list:
        return [store, exec_id, cache]

    assert tricky.run("s", exec_id="e", cache=False).wait() == ["s", "e", False]


def test_misused_decorators_are_refused_at_once() -> None:
    for options in ({"retries": -1}, {"retries": True}, {"retries": 1.5}):
        with pytest.raises(errors.UsageError):
            checkpoint(**options)(lambda: 1)
        with pytest.raises(errors.UsageError):
            flow(**options)(echo.function)
    with pytest.raises(errors.UsageError, match="runtime"):
        checkpoint(runtime="elsewhere")(same.function)
    with pytest.raises(errors.UsageError, match="generator"):

        @flow
        def generating():
            yield 1

    with pytest.raises(errors.UsageError, match="generator"):

        @flow
        async def streaming():
            yield 1


def test_context_errors_say_where_things_belong() -> None:
    @checkpoint
    def nested() -> int:
        return double(1)

    @checkpoint
    def waits() -> bool:
        return kitaru.wait()

    @flow
    def bad(which: int):
        return (nested, waits, lambda: doubled.run(1), lambda: kitaru.save("a", 1))[which]()

    for call in (double, kitaru.wait, kitaru.log, kitaru.idempotency_key, kitaru.llm):
        with pytest.raises(errors.ContextError):
            call("x") if call is kitaru.llm else call(1) if call is double else call()
    for which in range(4):
        with pytest.raises(errors.FlowError) as failure:
            bad.run(which).wait()
        assert isinstance(failure.value.__cause__, errors.ContextError)


def test_in_a_thread_of_the_users_a_checkpoint_is_refused() -> None:
    found: list[BaseException] = []

    @flow
    def threaded() -> int:
        def work() -> None:
            try:
                double(1)
            except errors.ContextError as error:
                found.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return double(2)

    handle = threaded.run()
    assert handle.wait() == 4
    assert len(found) == 1
    assert [r.id for r in KitaruClient().executions.get(handle.exec_id).invocations] == ["double"]


def test_recursion_helpers_methods_lambdas_and_dispatch() -> None:
    @dataclass
    class Tool:
        factor: int

        @checkpoint
        def times(self, x: int) -> int:
            return x * self.factor

    def countdown(n: int) -> list[int]:
        return [double(n), *countdown(n - 1)] if n else []

    @flow
    def lively() -> list:
        tools = {"double": double, "again": lambda x: double(x)}
        return [countdown(2), [tools[name](5) for name in tools], Tool(3).times(2)]

    handle = lively.run()
    assert handle.wait() == [[4, 2], [10, 10], 6]
    ids = [r.id for r in KitaruClient().executions.get(handle.exec_id).invocations]
    assert ids == ["double", "double_2", "double_3", "double_4", "times"]


def test_an_explicit_id_is_used_once() -> None:
    @checkpoint
    def own(id: str) -> str:
        return id

    @flow
    def named(twice: bool) -> list:
        first = double(1, id="mine")
        return [first, double(2), own(id="kept"), double(3, id="mine") if twice else 0]

    handle = named.run(False)
    assert handle.wait() == [2, 4, "kept", 0]
    ids = [r.id for r in KitaruClient().executions.get(handle.exec_id).invocations]
    assert ids == ["mine", "double", "own"]
    with pytest.raises(errors.FlowError, match="mine"):
        named.run(True).wait()


def test_async_checkpoints_are_awaited() -> None:
    @checkpoint
    async def later(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return x + 1

    @flow
    def asynchronous() -> list:
        return [later(1), later.submit(2).result()]

    assert asynchronous.run().wait() == [2, 3]
