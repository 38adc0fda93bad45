"""`kitaru.harness`: ids, scopes, places, usage, events and errors of steps."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import checkpoint, errors, flow, harness
from kitaru.cli.render.execution import notes
from kitaru.client import KitaruClient
from kitaru.wire.names import check_name
from tests.asynchronous.conftest import Runs
from tests.waiting import wait_until

KEY = "sk-" + "a1B2c3D4" * 4
ran: list[str] = []


@pytest.fixture(autouse=True)
def _ran() -> None:
    ran.clear()


async def value(of: Any) -> Any:
    ran.append(f"{of}")
    await asyncio.sleep(0)
    return of


@checkpoint(cache=False)
def work(x: Any) -> Any:
    return x


# Ids


def test_ids_are_the_place_the_scopes_and_the_key_or_the_number(runs: Runs) -> None:
    @flow
    async def ids() -> None:
        await harness.step("model", lambda: value(0))
        for _ in range(2):
            async with harness.scope("agent"):
                await harness.step("model", lambda: value(1))
                await harness.step("model", lambda: value(2))
                await harness.step("any", lambda: value(3), key="call/1 é")
                with harness.scope("inner", key="call.2"):
                    harness.blocking_step("get weather", lambda: 4)
                    work(5)
        await harness.step("model", lambda: value(6))

    handle = ids.run()
    handle.wait()
    one = [
        "model",
        "model_2",
        "call_1__5ad3cb16fd21",
        "call_2.get_weather",
        "call_2.work",
    ]
    one[2] = harness.clean("call/1 é")
    assert list(runs.records(handle)) == [
        "model",
        *[f"agent.{id}" for id in one],
        *[f"agent_2.{id}" for id in one],
        "model_2",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a-b_C1", "a-b_C1"), ("get weather!", "get_weather_"), ("7up", "_7up"), ("-", "_-")],
)
def test_text_is_cleaned(text: str, expected: str) -> None:
    assert harness.clean(text) == expected


@given(st.text())
def test_any_text_becomes_a_name(text: str) -> None:
    assert check_name("step", harness.clean(text)) == harness.clean(text)


def test_long_and_foreign_texts_stay_different() -> None:
    texts = ["研究", "翻译", "", "é", "ü", "x" * 101, "x" * 102, "a" * 100]
    assert len({harness.clean(text) for text in texts}) == len(texts)


def test_a_key_is_taken_once(runs: Runs) -> None:
    @flow
    async def twice() -> list[str]:
        said = []
        await harness.step("tool", lambda: value(1), key="call 1")
        with pytest.raises(errors.UsageError, match='"call_1" is taken: an earlier call in') as e:
            await harness.step("tool", lambda: value(2), key="call 1")
        said.append(e.value.message)
        harness.scope("agent", key="k")
        with pytest.raises(errors.UsageError, match="an earlier scope"):
            harness.scope("other", key="k")
        with harness.scope("agent", key="k2"):
            await harness.step("tool", lambda: value(3), key="call 1")
        return said

    assert "in the flow has it" in twice.run().wait()[0]
    assert ran == ["1", "3"]


def test_scopes_and_tasks_never_have_the_same_place(runs: Runs) -> None:
    async def agent_2() -> None:
        work(1)
        work(2)

    @flow
    async def places() -> None:
        harness.scope("agent", key="agent_3")
        with harness.scope("agent"):
            work(0)
        await asyncio.create_task(agent_2())
        for _ in range(2):
            with harness.scope("agent"):
                work(3)

    handle = places.run()
    handle.wait()
    assert list(runs.records(handle)) == [
        "agent.work", "agent_2.work", "agent_2.work_2", "agent_4.work", "agent_5.work"
    ]  # fmt: skip


def test_tasks_and_threads_in_a_scope_are_not_counted(runs: Runs) -> None:
    async def private(n: int) -> None:
        await asyncio.gather(asyncio.create_task(asyncio.sleep(0)), asyncio.sleep(0))
        await harness.step("tool", lambda: value(n), key=f"c{n}")

    @flow
    async def counted() -> None:
        async with harness.scope("agent"):
            await asyncio.gather(*[private(n) for n in range(2)])
            await asyncio.to_thread(harness.blocking_step, "thread", lambda: 1)
            context = contextvars.copy_context()
            await asyncio.create_task(private(3), context=context)
            thread = threading.Thread(target=context.run, args=(work, 1))
            thread.start()
            thread.join()
        await asyncio.create_task(private(4))

    handle = counted.run()
    handle.wait()
    assert set(runs.records(handle)) == {
        "agent.c0", "agent.c1", "agent.thread", "agent.c3", "agent.work", "private.c4"
    }  # fmt: skip


def test_tasks_of_user_code_in_a_scope_are_counted(runs: Runs) -> None:
    async def worker(n: int) -> None:
        await harness.step("ask", lambda: value(n))
        await asyncio.to_thread(work, n)

    @flow
    async def tool() -> None:
        async with harness.scope("agent"), harness.scope("tool", key="c1", tasks=True):
            await asyncio.gather(worker(1), worker(2))

    handle = tool.run()
    handle.wait()
    assert set(runs.records(handle)) == {
        f"agent.c1.worker{n}.{name}" for n in ("", "_2") for name in ("ask", "work")
    }


def test_a_scope_may_be_entered_again_and_by_several_tasks(runs: Runs) -> None:
    @flow
    async def again() -> None:
        one = harness.scope("stream")

        async def consume(n: int) -> None:
            async with one:
                await asyncio.sleep(0)
                await harness.step("piece", lambda: value(n), key=f"k{n}")
                with one:
                    work(n)
            await harness.step("after", lambda: value(n))

        with one:
            await harness.step("first", lambda: value(0))
        await consume(1)
        await asyncio.gather(consume(2))

    handle = again.run()
    handle.wait()
    assert list(runs.records(handle)) == [
        "stream.first", "stream.k1", "stream.work", "after",
        "stream.k2", "stream.work_2", "consume.after",
    ]  # fmt: skip


def test_a_scope_of_a_generator_closed_elsewhere_is_left(runs: Runs) -> None:
    async def pieces() -> Any:
        with harness.scope("stream"):
            yield await harness.step("piece", lambda: value(1))
            yield 2

    @flow
    async def early() -> None:
        source = pieces()
        await asyncio.create_task(source.__anext__())
        await source.aclose()
        work(1)

    handle = early.run()
    handle.wait()
    assert list(runs.records(handle))[-1] == "work"


def test_unkeyed_calls_of_two_tasks_at_once_stop_the_execution(runs: Runs) -> None:
    async def agent() -> None:
        await harness.step("model", lambda: value(1))

    @flow
    async def both() -> None:
        async with harness.scope("agents"):
            await asyncio.gather(agent(), agent(), return_exceptions=True)

    with pytest.raises(errors.Diverged, match=r'Two calls "agents\.model" run') as error:
        both.run().wait()
    assert "key" in str(error.value.help)


def test_unkeyed_calls_of_one_task_and_one_after_another_are_numbered(runs: Runs) -> None:
    async def failing() -> None:
        raise ValueError("no")

    @flow
    async def fine() -> None:
        async with harness.scope("agent"):
            await asyncio.gather(*[harness.step("model", lambda: value(1)) for _ in range(2)])
            kept = []
            for _ in range(2):
                try:
                    await asyncio.create_task(harness.step("model", failing))
                except ValueError as error:
                    kept.append(error)
            await asyncio.create_task(harness.step("model", lambda: value(1)))

    handle = fine.run()
    handle.wait()
    assert list(runs.records(handle)) == [f"agent.model{n}" for n in ("", "_2", "_3", "_4", "_5")]


# Places of a provider


def test_a_provider_places_calls_and_a_new_attempt_meets_its_records(runs: Runs) -> None:
    at: contextvars.ContextVar[tuple[str, object] | None] = contextvars.ContextVar("at")

    def node(path: str, attempt: object) -> None:
        at.set((path, attempt))
        harness.blocking_step("look", lambda: ran.append(path))
        harness.blocking_step("look", lambda: ran.append(path))
        with harness.scope("agent", key="k"):
            work(1)
        at.set(None)

    @flow
    def graph() -> None:
        with harness.scope("graph"), harness.place_provider(lambda: at.get(None)):
            first = object()
            node("sub graph.n-1", first)
            node("n-2", object())
            node("sub graph.n-1", object())
            harness.blocking_step("end", lambda: None)
        work(2)

    handle = graph.run()
    handle.wait()
    assert list(runs.records(handle)) == [
        *[f"graph.sub_graph.n-1.{id}" for id in ("look", "look_2", "k.work")],
        *[f"graph.n-2.{id}" for id in ("look", "look_2", "k.work")],
        "graph.end",
        "work",
    ]
    assert ran == ["sub graph.n-1"] * 2 + ["n-2"] * 2


# Values, retries, cancellation


def test_a_resumed_flow_runs_no_recorded_step_again(runs: Runs) -> None:
    fails = threading.Event()

    @flow
    async def twice() -> Any:
        with harness.scope("agent"):
            got = await harness.step("model", lambda: value({"a": [1, None]}), kind="llm")
            if not fails.is_set():
                fails.set()
                raise ValueError("stop")
            return got

    with pytest.raises(errors.FlowError):
        twice.options(exec_id="e").run().wait()
    assert twice.resume("e").wait() == {"a": [1, None]}
    assert len(ran) == 1


def test_the_flow_s_retries_do_not_apply_to_steps(runs: Runs) -> None:
    async def fails() -> None:
        ran.append("x")
        raise ValueError("no")

    @flow(retries=2)
    async def retried() -> None:
        for retries in (0, 1):
            with pytest.raises(ValueError):
                await harness.step("model", fails, retries=retries)

    retried.run().wait()
    assert len(ran) == 1 + 2


def test_arguments_are_recorded_and_compared_on_request(runs: Runs) -> None:
    state = {"n": 0}

    @flow
    async def changed(compared: bool) -> None:
        state["n"] += 1
        given = {"n": state["n"], "token": "x"}

        async def change() -> None:
            given["n"] = -1

        await harness.step("tool", change, kind="tool", arguments=given, compared=compared)
        if state["n"] == 1:
            raise ValueError

    for compared, raised in ((False, None), (True, errors.Diverged)):
        state["n"] = 0
        exec_id = f"e-{compared}".lower()
        with pytest.raises(errors.FlowError):
            changed.options(exec_id=exec_id).run(compared).wait()
        handle = changed.resume(exec_id)
        if raised:
            with pytest.raises(raised, match="other arguments"):
                handle.wait()
        else:
            handle.wait()
        assert runs.records(handle)["tool"].arguments["n"] == 1
        assert runs.records(handle)["tool"].arguments["token"] != "x"


@pytest.mark.parametrize("blocking", [False, True])
def test_a_record_that_another_version_cannot_read_stops_with_both(
    blocking: bool, runs: Runs
) -> None:
    used = {"version": "acme 1.0"}

    def read(value: Any) -> Any:
        if used["version"] == "acme 2.0":
            raise ValueError("no field x")
        return [value]

    @flow
    async def reads() -> Any:
        options: dict[str, Any] = {"version": used["version"], "read": read}
        if blocking:
            found = harness.blocking_step("model", lambda: 1, **options)
        else:
            found = await harness.step("model", lambda: value(1), **options)
        if used["version"] == "acme 1.0":
            raise LookupError(found)
        return found

    with pytest.raises(errors.FlowError, match=r"LookupError: \[1\]"):
        reads.options(exec_id="e").run().wait()
    used["version"] = "acme 1.1"
    assert reads.options(exec_id="e2").run().wait() == [1]
    used["version"] = "acme 2.0"
    with pytest.raises(errors.Diverged, match=r"written with acme 1\.0, and acme 2\.0 cannot"):
        reads.resume("e").wait()


def test_a_cancelled_step_is_recorded(runs: Runs) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    @flow
    async def cancelled() -> str:
        with harness.scope("agent"):
            task = asyncio.create_task(harness.step("guard", slow))
            await harness.step("model", lambda: value(1))
            task.cancel()
            await asyncio.wait([task])
            return await harness.step("model", lambda: value("end"))  # type: ignore[no-any-return]

    handle = cancelled.run()
    assert handle.wait() == "end"
    assert runs.records(handle)["agent.guard"].status == "cancelled"


def test_what_is_no_json_or_no_kind_is_an_error(runs: Runs) -> None:
    @flow
    async def wrong() -> None:
        bad: Any = object()
        for name, options, of in (
            ("arguments", {"arguments": {"x": bad}}, "arguments of a step must be JSON"),
            ("kind", {"kind": "wait"}, "kind='wait' is not one of llm, tool, agent"),
            ("retries", {"retries": -1}, "retries=-1"),
        ):
            with pytest.raises(errors.UsageError, match=of):
                await harness.step(name, lambda: value(1), **options)

    wrong.run().wait()
    assert ran == []


# Where something may be called


def test_current_execution_is_the_one_whose_body_calls(runs: Runs) -> None:
    assert harness.current_execution() is None

    @checkpoint(cache=False)
    def inside() -> bool:
        return harness.current_execution() is None

    @flow
    async def named() -> bool:
        found = harness.current_execution()
        assert found is not None and found.flow == "named" and found.exec_id == "e1"
        assert found.store.url == runs.store

        async def none() -> bool:
            return harness.current_execution() is None

        return inside() and await harness.step("s", none)

    assert named.options(exec_id="e1").run().wait()


@pytest.mark.parametrize(
    "call",
    [
        lambda: harness.blocking_step("x", lambda: 1),
        lambda: harness.step("x", lambda: value(1)),
        lambda: harness.scope("x"),
        lambda: harness.blocking_wait(name="x"),
        lambda: kitaru.wait(name="x"),
        lambda: work(1),
    ],
)
def test_a_durable_call_in_a_step_names_scope(call: Callable[[], Any], runs: Runs) -> None:
    helps: list[str] = []

    async def body() -> None:
        with pytest.raises(errors.ContextError, match=r"inside the step agent\.tool") as error:
            call()
        helps.append(str(error.value.help))

    @flow
    async def nested() -> None:
        with harness.scope("agent"):
            await harness.step("tool", body)

    # A harness that catches the error of a tool would hide it.
    with pytest.raises(errors.FlowError, match=r"inside the step agent\.tool"):
        nested.run().wait()
    assert "kitaru.harness.scope" in helps[0]


def test_outside_a_flow_steps_are_errors(runs: Runs) -> None:
    for call in (lambda: harness.step("x", lambda: value(1)), lambda: harness.scope("x")):
        with pytest.raises(errors.ContextError, match="outside a flow"):
            call()
    with pytest.raises(errors.ContextError, match="outside a checkpoint"):
        harness.usage(model="m")


def test_a_checkpoint_is_recognized() -> None:
    class Own:
        @checkpoint
        def method(self) -> None: ...

    assert harness.is_checkpoint(work) and harness.is_checkpoint(Own().method)
    assert not harness.is_checkpoint(value)


# Usage, attributes and events


async def asked() -> str:
    harness.usage(
        model="gpt-4o", provider="openai", input_tokens=12, output_tokens=3, cost_usd=0.25,
        latency_ms=1500, prompt=[{"role": "user", "content": f"key {KEY}"}],
        response="Hello", finish="stop", cached_tokens=10,
    )  # fmt: skip
    harness.attributes(harness="acme", version="1.2")
    return "Hello"


async def agent() -> str:
    with harness.scope("agent"):
        await harness.step("model", asked, kind="llm", attributes={"format": "m/1"})
        return await harness.step("tool", lambda: value("x"), kind="tool")  # type: ignore[no-any-return]


def test_usage_is_a_model_call_like_any_other(runs: Runs) -> None:
    handle = flow(agent).run()
    handle.wait()
    record = runs.records(handle)["agent.model"]
    assert (record.kind, record.metadata) == (
        "llm", {"format": "m/1", "harness": "acme", "version": "1.2"}
    )  # fmt: skip
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert call["tokens"] == {"prompt": 12, "completion": 3}
    assert (call["cost"], call["latency_s"], call["finish"]) == (0.25, 1.5, "stop")
    assert (call["model"], call["resolved"], call["cached_tokens"]) == (
        "gpt-4o", "openai/gpt-4o", 10
    )  # fmt: skip
    assert call["response"] == "Hello"
    assert KEY not in str(call) and call["prompt"][0]["role"] == "user"


@pytest.mark.parametrize("capture", ["metadata", "off"])
def test_capture_decides_what_usage_records(capture: Any, runs: Runs) -> None:
    handle = flow(capture=capture)(agent).run()
    assert handle.wait() == "x"
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert "prompt" not in call and "response" not in call
    assert ("tokens" in call) == (capture == "metadata")


def test_the_usage_of_a_failed_step_is_recorded_with_the_attempt(runs: Runs) -> None:
    async def fails() -> None:
        harness.usage(model="m", input_tokens=5)
        raise ValueError("no")

    @flow
    async def failing() -> None:
        await harness.step("model", fails, kind="llm")

    handle = failing.run()
    with pytest.raises(errors.FlowError):
        handle.wait()
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert (call["attempt"], call["tokens"]["prompt"]) == (1, 5)


def test_events_reach_all_handlers_live_and_not_on_a_replay(runs: Runs) -> None:
    seen: list[Any] = []
    fails = threading.Event()

    async def streams() -> str:
        for piece in ("a", "b"):
            harness.emit(piece)
        await asyncio.to_thread(harness.emit, "c")
        return "abc"

    @flow
    async def streaming() -> str:
        with harness.listen(lambda event: seen.append(event)):
            with harness.listen(lambda event: seen.append(event.upper())):
                await harness.step("model", streams)
            with pytest.raises(errors.ContextError, match="emit was used outside a step"):
                harness.emit("x")
            if not fails.is_set():
                fails.set()
                raise ValueError
            return await harness.step("model", streams)  # type: ignore[no-any-return]

    with pytest.raises(errors.FlowError):
        streaming.options(exec_id="e").run().wait()
    assert seen == ["a", "A", "b", "B", "c", "C"]
    seen.clear()
    assert streaming.resume("e").wait() == "abc"
    assert seen == ["a", "b", "c"]


def test_outside_a_flow_events_reach_the_handlers_too() -> None:
    seen: list[Any] = []
    with harness.listen(seen.append):
        harness.emit(1)
    harness.emit(2)
    assert seen == [1]


def test_a_provider_can_ignore_the_tasks_around_it(runs: Runs) -> None:
    async def private() -> None:
        with harness.place_provider(lambda: ("clerk", private), outermost=True):
            step = harness.step("model", lambda: value(1))
        await step

    @flow
    async def body() -> None:
        await asyncio.create_task(private())
        await asyncio.create_task(private())

    handle = body.run()
    handle.wait()
    assert runs.records(handle).keys() == {"clerk.model", "clerk.model_2"}


# Waits


def test_waits_of_scopes_are_answered_in_any_order(runs: Runs) -> None:
    @flow
    async def approvals() -> list[bool]:
        async with harness.scope("agent"):
            return list(
                await asyncio.gather(
                    *[
                        harness.wait(name="approve", key=f"approve {n}", schema=bool)
                        for n in range(2)
                    ]
                )
            )

    handle = approvals.run()
    client = KitaruClient()
    wait_until(lambda: len(client.executions.get(handle.exec_id).waits) == 2)
    client.executions.input(handle.exec_id, False, wait="agent.approve_1")
    client.executions.input(handle.exec_id, True, wait="agent.approve_0")
    assert handle.wait() == [True, False]


def test_a_flow_that_is_not_async_waits_in_scopes(runs: Runs) -> None:
    @flow
    def blocks() -> list[Any]:
        with harness.scope("agent"):
            one = harness.blocking_wait(name="ask first", schema=int)

            async def agent() -> Any:
                return await harness.wait(name="second", key="k", schema=int)

            return [one, asyncio.run(agent())]

    handle = blocks.run()
    client = KitaruClient()
    for wait, answer in (("agent.ask_first", 1), ("agent.k", 2)):
        wait_until(lambda w=wait: w in str(client.executions.get(handle.exec_id).waits))
        client.executions.input(handle.exec_id, answer, wait=wait)
    assert handle.wait() == [1, 2]


def test_the_versions_that_an_adapter_notes_are_not_shown_as_notes_of_the_flow(runs: Runs) -> None:
    @flow
    async def noted() -> None:
        await harness.step("model", lambda: value(1), attributes={"harness": "acme"})

    handle = noted.run()
    handle.wait()
    document = KitaruClient().executions.get(handle.exec_id).to_dict()
    assert [one["notes"] for one in document["invocations"]] == [{"harness": "acme"}]
    assert list(notes(document)) == []
