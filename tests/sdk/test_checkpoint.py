"""Behaviours of checkpoints: by value, retries, failures, futures, cache."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.runtime.engine.futures import Futures
from tests.recorder import Calls
from tests.waiting import forget_runs

CALLS = Calls()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()


@checkpoint
def noted(value):
    CALLS.append(value)
    return value


@checkpoint
def failing(value):
    CALLS.append(value)
    raise ValueError(f"no {value}")


class Odd(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code)
        self.why = why


@checkpoint
def odd():
    raise Odd(7, why="it is odd")


def invocations(handle: kitaru.Handle) -> dict[str, Any]:
    return {r.id: r for r in KitaruClient().executions.get(handle.exec_id).invocations}


def test_results_are_copies_on_the_first_run_too() -> None:
    shared = [1]

    @checkpoint
    def give() -> list:
        return shared

    @flow
    def body() -> bool:
        found = give()
        found.append(2)
        return found is shared

    assert body.run().wait() is False
    assert shared == [1]


@pytest.mark.parametrize("fails", [False, True])
def test_a_changed_argument_is_an_error_that_names_it(fails: bool) -> None:
    @checkpoint
    def greedy(kept: int, items: list) -> int:
        items.append(kept)
        if fails:
            raise KeyError("after the change")
        return kept

    @flow
    def body() -> None:
        greedy(1, [2])

    with pytest.raises(errors.FlowError, match=r"greedy.*items"):
        body.run().wait()


def test_an_unrecordable_result_names_checkpoint_path_and_fix() -> None:
    @checkpoint
    def fetch() -> dict:
        return {"items": [1, 2, 3, {"client": threading.Lock()}]}

    @flow
    def body() -> None:
        fetch()

    with pytest.raises(errors.CheckpointFailed) as failure:
        body.run().wait()
    cause = failure.value.__cause__
    assert isinstance(cause, errors.ValueNotEncodable)
    assert cause.path == 'result["items"][3]["client"]'
    assert "fetch" in str(cause) and cause.help


def test_a_generator_is_not_a_result() -> None:
    @checkpoint
    def lazy():
        yield 1

    @flow
    def body():
        return lazy()

    with pytest.raises(errors.CheckpointFailed, match="list"):
        body.run().wait()


def test_retries_until_it_succeeds() -> None:
    @checkpoint(retries=2)
    def flaky() -> str:
        CALLS.append(1)
        if len(CALLS) < 3:
            raise OSError("not yet")
        return "done"

    @flow
    def body() -> str:
        return flaky()

    handle = body.run()
    assert handle.wait() == "done"
    assert invocations(handle)["flaky"].attempts == 3


def test_the_flows_retries_are_the_default() -> None:
    @flow(retries=1)
    def body() -> None:
        failing(1)

    with pytest.raises(errors.CheckpointFailed):
        body.run().wait()
    assert CALLS == [1, 1]


def test_an_uncaught_failure_ends_the_run_and_says_how_to_retry() -> None:
    @flow
    def body() -> None:
        noted(1)
        failing(2)
        noted(3)

    handle = body.run()
    with pytest.raises(errors.CheckpointFailed) as failure:
        handle.wait()
    assert CALLS == [1, 2]
    assert handle.status == "failed"
    assert isinstance(failure.value.__cause__, ValueError)
    assert f"kitaru executions retry {handle.exec_id}" in failure.value.help
    error = KitaruClient().executions.get(handle.exec_id).to_dict()["error"]
    assert (error["type"], error["message"], error["invocation"]) == (
        "ValueError",
        "no 2",
        "failing",
    )
    assert "in failing" in error["traceback"] and "kitaru/runtime" not in error["traceback"]
    assert list(invocations(handle)) == ["noted"], "an uncaught failure is not a result"


def test_retry_runs_what_failed_and_nothing_else() -> None:
    cause = {"broken": True}

    @checkpoint
    def mends() -> str:
        CALLS.append("mends")
        if cause["broken"]:
            raise OSError("down")
        return "up"

    @flow
    def body() -> list:
        return [noted(1), mends()]

    from kitaru.local_flow import run_execution
    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores import open_store

    handle = body.run()
    with pytest.raises(errors.CheckpointFailed):
        handle.wait()
    cause["broken"] = False
    again = run_execution(body, Journal.open(open_store(), handle.exec_id), cache=False)
    assert again.wait() == [1, "up"]
    assert CALLS == [1, "mends", "mends"]
    with pytest.raises(errors.StateError, match="completed"):
        KitaruClient().executions.retry(handle.exec_id)


def test_a_caught_failure_is_a_value_like_any_other() -> None:
    @flow
    def body() -> str:
        try:
            failing(1)
        except ValueError as error:
            caught = str(error)
        return caught + noted("!")

    handle = body.run()
    assert handle.wait() == "no 1!"
    assert invocations(handle)["failing"].status == "failed"
    assert body.resume(handle.exec_id).wait() == "no 1!"
    assert CALLS == [1, "!"]


def test_a_caught_failure_is_the_same_on_replay(store: str) -> None:
    seen: list[Any] = []

    @flow
    def body() -> bool:
        try:
            odd()
        except Odd as error:
            seen.append((type(error), error.args, error.why))
        return kitaru.wait()

    handle = body.options(exec_id="e1").run()
    assert handle.settle() == "waiting"
    replay_in_another_place(body, "e1", True)
    assert len(seen) == 2 and seen[0] == seen[1] == (Odd, (7,), "it is odd")


def replay_in_another_place(body: Any, exec_id: str, answer: Any) -> Any:
    """Resume like another process: without a run of it in this process."""
    forget_runs()
    return KitaruClientFor(body).input(exec_id, answer)


class KitaruClientFor:
    """Resumes a flow that no file holds."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def input(self, exec_id: str, value: Any) -> Any:
        from kitaru.runtime.journal.journal import Journal
        from kitaru.stores import open_store
        from kitaru.wire.records import WaitAnswer

        journal = Journal.open(open_store(), exec_id)
        journal.answer(WaitAnswer(journal.pending_waits()[0].name, "value", value))
        return self._body.resume(exec_id).wait()


def test_base_exceptions_are_not_recorded() -> None:
    @checkpoint(retries=3)
    def leaves() -> None:
        CALLS.append(1)
        raise SystemExit(3)

    @flow
    def body() -> None:
        leaves()

    handle = body.run()
    with pytest.raises(errors.FlowError):
        handle.wait()
    assert CALLS == [1]
    assert invocations(handle) == {}


# Futures


@pytest.mark.parametrize("read", [True, False])
def test_what_no_record_can_hold_is_raised_where_the_future_is_read(read: bool) -> None:
    @checkpoint
    def leaves() -> None:
        raise SystemExit("nothing to do")

    @checkpoint
    def after() -> int:
        return 1

    @flow
    def submitting() -> int:
        future = leaves.submit()
        if read:
            future.result()
        return after()

    handle = submitting.run()
    with pytest.raises(errors.KitaruError, match="SystemExit: nothing to do"):
        handle.wait(60)
    assert [r.id for r in KitaruClient().executions.get(handle.exec_id).invocations] == (
        [] if read else ["after"]
    )


def test_map_and_product_keep_the_order() -> None:
    @flow
    def body(xs: list) -> list:
        literal = noted.map([1, 2, 3])
        pairs = pair.product("ab", [1, 2])
        return [literal.result(), noted.map(xs).result(), pairs.result(), len(literal)]

    @checkpoint
    def pair(letter: str, number: int) -> str:
        return f"{letter}{number}"

    assert body.run(["x", "y"]).wait() == [
        [1, 2, 3],
        ["x", "y"],
        ["a1", "a2", "b1", "b2"],
        3,
    ]


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
def test_ids_are_taken_in_the_order_of_the_submits(order: tuple[int, ...]) -> None:
    """However the calls finish: each waits for the one that is to finish before it."""
    finished = [threading.Event() for _ in order]

    @checkpoint
    def ordered(number: int) -> int:
        at = order.index(number)
        assert at == 0 or finished[at - 1].wait(60)
        return number

    @flow
    def body() -> list:
        futures = [ordered.submit(number) for number in range(4)]
        for at, number in enumerate(order):
            futures[number].result()
            finished[at].set()
        return [[future.id, future.result()] for future in futures]

    assert body.run().wait() == [
        ["ordered", 0],
        ["ordered_2", 1],
        ["ordered_3", 2],
        ["ordered_4", 3],
    ]


def test_at_most_eight_run_at_once() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    full = threading.Event()

    @checkpoint
    def busy(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == 8:
                full.set()
        full.wait(60)
        with lock:
            running[0] -= 1
        return number

    @flow
    def body() -> int:
        return sum(busy.map(range(20)).result())

    assert body.run().wait() == 190
    assert most[0] == 8


def test_a_submitted_checkpoint_gets_its_own_arguments() -> None:
    gate = threading.Event()

    @checkpoint
    def late(items: list) -> list:
        gate.wait(60)
        return items

    @flow
    def body() -> list:
        items = [1]
        future = late.submit(items)
        items.append(2)
        gate.set()
        return future.result()

    assert body.run().wait() == [1]


def test_a_future_keeps_its_value_and_its_exception() -> None:
    @flow
    def body() -> list:
        good, bad = noted.submit([1]), failing.submit(2)
        good.result().append(2)
        caught = []
        for _ in range(2):
            try:
                bad.result()
            except ValueError as error:
                caught.append(error)
        return [good.result(), caught[0] is caught[1], good.result() is good.load()]

    assert body.run().wait() == [[1, 2], True, True]


def test_a_future_nobody_awaits_finishes_before_the_run_does() -> None:
    @flow
    def body() -> str:
        noted.submit("late")
        return "done"

    handle = body.run()
    assert handle.wait() == "done"
    assert list(invocations(handle)) == ["noted"]


def test_a_failure_nobody_awaits_fails_the_run() -> None:
    @flow
    def body() -> str:
        failing.submit("late")
        return "done"

    handle = body.run()
    with pytest.raises(errors.CheckpointFailed, match="no late"):
        handle.wait()
    assert invocations(handle) == {}, "it is not sealed: a retry runs it again"


def test_a_submitted_failure_that_is_caught_is_sealed() -> None:
    @flow
    def body() -> str:
        future = failing.submit(1)
        try:
            future.result()
        except ValueError:
            return noted("continued")
        return "no"

    handle = body.run()
    assert handle.wait() == "continued"
    assert {i: r.status for i, r in invocations(handle).items()} == {
        "failing": "failed",
        "noted": "completed",
    }


def test_futures_as_arguments_pass_their_values() -> None:
    @flow
    def body() -> list[Any]:
        one, two = noted.submit(1), noted.submit([2])
        pair = noted((one, two))
        named = noted.submit({"a": one, "rest": noted.map([3, 4])})
        return [noted(one), pair, named.result()]

    assert body.run().wait() == [1, (1, [2]), {"a": 1, "rest": [3, 4]}]


def test_a_future_that_failed_fails_the_call_it_is_passed_to() -> None:
    @flow
    def body() -> list[str]:
        found = []
        for call in (noted, noted.submit):
            try:
                call([failing.submit("x")])
            except ValueError as error:
                found.append(str(error))
        return found

    handle = body.run()
    assert handle.wait() == ["no x", "no x"]
    assert sorted(invocations(handle)) == ["failing", "failing_2"]


def test_a_future_is_done_once_it_has_its_result() -> None:
    @flow
    def body() -> bool:
        future = noted.submit(1)
        future.result()
        return future.done()

    assert body.run().wait() is True


def test_failures_that_nobody_reads_are_raised_in_the_order_of_their_submission() -> None:
    @flow
    def body() -> None:
        for number in range(11):
            failing.submit(number)

    handle = body.run()
    with pytest.raises(errors.CheckpointFailed, match="ValueError: no 0\n"):
        handle.wait()


def test_futures_are_a_sequence() -> None:
    futures: Futures[int] = Futures(())
    assert (len(futures), list(futures), futures.result()) == (0, [], [])


# Cache


def test_a_flow_that_asks_again_gets_what_is_said_then() -> None:
    @checkpoint
    def poll(job: str) -> str:
        CALLS.append(job)
        return "done" if len(CALLS) in (3, 5) else "pending"

    @flow
    def polling() -> int:
        rounds = 1
        while poll("j") == "pending":
            rounds += 1
        return rounds

    assert polling.run().wait(60) == 3
    # The first answer is the earlier execution's; then the job is asked.
    assert polling.run().wait(60) == 3
    assert len(CALLS) == 5


def test_equal_work_is_not_done_again_in_another_execution() -> None:
    @flow
    def body(value: str) -> str:
        return noted(noted(value) + "!")

    first, second = body.run("a"), body.run("a")
    assert first.wait() == second.wait() == "a!"
    third = body.run("a")
    assert third.wait() == "a!"
    assert invocations(third)["noted"].cached_from.endswith("/noted")
    before = len(CALLS)
    assert body.run("b").wait() == "b!"
    assert len(CALLS) == before + 2


@pytest.mark.parametrize("where", ["run", "flow", "checkpoint", "configure"])
def test_the_cache_can_be_turned_off_anywhere(where: str, monkeypatch: Any) -> None:
    if where == "configure":
        monkeypatch.setenv("KITARU_CACHE", "false")
    stubborn = checkpoint(cache=where != "checkpoint")(noted.function)

    @flow(cache=False if where == "flow" else None)
    def body() -> int:
        return stubborn(1)

    for _ in range(2):
        body.options(cache=False if where == "run" else None).run().wait()
    assert CALLS == [1, 1]


def test_the_run_outranks_the_decorator() -> None:
    @flow(cache=False)
    def body() -> int:
        return noted(1)

    for _ in range(2):
        body.options(cache=True).run().wait()
    assert CALLS == [1]


def test_what_cannot_be_compared_is_never_cached() -> None:
    @flow
    def body() -> None:
        opaque(threading.Lock())

    @checkpoint
    def opaque(lock) -> None:
        CALLS.append("opaque")

    for _ in range(2):
        body.run().wait()
    assert CALLS == ["opaque", "opaque"]


# Beside the value


def test_log_save_load_and_the_idempotency_key() -> None:
    keys: list[str] = []

    @checkpoint(retries=1)
    def writes() -> str:
        keys.append(kitaru.idempotency_key())
        kitaru.log(rows=1, source="crm")
        kitaru.log(rows=2)
        if len(keys) == 1:
            raise OSError("once")
        kitaru.save("table", [1, 2], type="rows")
        return "written"

    @checkpoint(cache=False)
    def reads(exec_id: str) -> list:
        found = [kitaru.load(exec_id, "table"), kitaru.load(exec_id, "writes")]
        for name in ("nothing", "twice"):
            with pytest.raises(errors.StateError) as missing:
                kitaru.load(exec_id, name)
            found.append(type(missing.value).__name__)
        return found

    @checkpoint
    def again(x: int) -> int:
        kitaru.save("twice", x)
        return x

    @flow
    def producer() -> None:
        kitaru.log(stage="begin", seen=1)
        writes()
        kitaru.log(stage="end", parts=(1, 2))
        again(1), again(2)

    @flow
    def consumer(exec_id: str) -> list:
        return reads(exec_id)

    handle = producer.run()
    handle.wait()
    records = invocations(handle)
    assert records["log"].metadata == {"stage": "begin", "seen": 1}
    view = KitaruClient().executions.get(handle.exec_id)
    assert view.notes == view.to_dict()["notes"] == {"stage": "end", "seen": 1, "parts": [1, 2]}
    shown = {one["id"]: one["notes"] for one in view.to_dict()["invocations"]}
    assert shown["writes"] == {"rows": 2, "source": "crm"} and shown["again"] == {}
    assert records["writes"].metadata == {"rows": 2, "source": "crm"}
    assert len(set(keys)) == 1 and len(keys) == 2
    assert consumer.run(handle.exec_id).wait() == [[1, 2], "written", "NotFound", "StateError"]
