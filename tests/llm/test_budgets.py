"""Budgets of executions and of days: what counts, what is refused, and how to continue."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, errors, flow, harness
from kitaru.errors import BudgetExceeded
from kitaru.ops import channels
from kitaru.ops.notifications import Notifier
from kitaru.runtime.executions import gc
from kitaru.runtime.llm import budgets, providers
from kitaru.runtime.llm.exchange import Answer
from kitaru.runtime.llm.models import ModelRequest
from kitaru.stores import open_store
from kitaru.wire import keys
from tests.differential.real import run_dry
from tests.notifications.receivers import receiving

DAY = {"usd_per_day": 10, "tokens_per_day": 100_000}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each model call cost 1 dollar and 1,000 tokens; return what was asked."""
    prompts: list[str] = []

    def answer(request: ModelRequest, resolved: Any, pieces: Any) -> Answer:
        prompts.append(str(request.prompt))
        return Answer(f"re: {request.prompt}", 900, 100, 1.0)

    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'kitaru.db'}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(providers, "script", answer)
    budgets._purses.clear()
    return prompts


@checkpoint(retries=3)
def research(topic: str) -> str:
    return kitaru.llm(topic)


@checkpoint
def both(topic: str) -> list[str]:
    return [kitaru.llm(f"{topic} {n}") for n in range(2)]


@pytest.mark.parametrize("budget", [{"usd": 2.5}, {"tokens": 2_500}, {"usd": 3, "tokens": 9_999}])
def test_calls_beyond_the_budget_are_refused(budget: dict[str, float], asked: list[str]) -> None:
    @flow(budget=budget)
    def one(topics: list[str]) -> list[str]:
        first = [kitaru.llm(topics[0]), *both(topics[1])]
        return [*first, *[research(topic) for topic in topics[2:]]]

    handle = one.options(exec_id="e").run(["a", "b", "c"])
    with pytest.raises(errors.CheckpointFailed, match=r"has used .* of its budget") as raised:
        handle.wait()
    assert isinstance(raised.value.__cause__, BudgetExceeded)
    # The retries of a checkpoint cannot help.
    assert asked == ["a", "b 0", "b 1"]

    @flow(name="one", budget={"usd": 4})
    def more(topics: list[str]) -> list[str]:
        first = [kitaru.llm(topics[0]), *both(topics[1])]
        return [*first, *[research(topic) for topic in topics[2:]]]

    result = more.options(exec_id="e").run(["a", "b", "c"]).wait()
    assert result == ["re: a", "re: b 0", "re: b 1", "re: c"]
    assert asked == ["a", "b 0", "b 1", "c"]


def test_a_flow_may_catch_it_and_its_replay_does_the_same(asked: list[str]) -> None:
    @flow(budget={"usd": 1})
    def one(end: bool) -> str:
        kitaru.llm("a")
        try:
            return research("b")
        except BudgetExceeded as error:
            kitaru.wait(name="more", question=str(error), schema=bool)
            return "cheap"

    handle = one.run(True)
    assert handle.settle() == "waiting"
    (wait,) = kitaru.KitaruClient().executions.get(handle.exec_id).waits
    assert "has used $1.00 of its budget of $1.00" in wait.question
    kitaru.KitaruClient().executions.input(handle.exec_id, True)
    assert one.resume(handle.exec_id).wait() == "cheap"
    assert asked == ["a"]


def test_what_was_reused_costs_nothing_and_failed_attempts_cost(asked: list[str]) -> None:
    @checkpoint(retries=1)
    def flaky() -> str:
        text = kitaru.llm("flaky")
        if asked.count("flaky") == 1:
            raise ValueError(text)
        return text

    @flow(budget={"usd": 3})
    def one(topic: str) -> str:
        return "".join([*both(topic), kitaru.llm("last")])

    @flow(budget={"usd": 2})
    def two() -> str:
        return flaky() + kitaru.llm("last")

    assert one.run("a").wait() == "re: a 0re: a 1re: last"
    # The checkpoint's result is reused.
    assert one.run("a").wait()
    with pytest.raises(errors.FlowError, match="has used"):
        two.run().wait()
    assert asked.count("flaky") == 2


@pytest.mark.parametrize("capture", ["off", "metadata"])
def test_calls_that_are_not_captured_count_in_their_process(capture: Any, asked: list[str]) -> None:
    @flow(budget={"tokens": 1_000}, capture=capture)
    def one() -> str:
        return kitaru.llm("a") + kitaru.llm("b")

    with pytest.raises(errors.FlowError, match="has used 1,000 tokens of its budget"):
        one.run().wait()
    assert asked == ["a"]


def test_requests_of_a_harness_count(asked: list[str]) -> None:
    ran = []

    def request() -> str:
        ran.append(1)
        harness.usage(model="gpt-4o", input_tokens=10, cost_usd=0.6)
        return "yes"

    @flow(budget={"usd": 1})
    def one() -> None:
        for _ in range(9):
            harness.blocking_step("model", request, kind="llm")

    with pytest.raises(errors.FlowError, match=r"has used \$1.20"):
        one.run().wait()
    assert len(ran) == 2


def test_the_executions_of_a_day_share_a_budget(asked: list[str]) -> None:
    @flow(budget=DAY, cache=False)
    def one(n: int) -> str:
        return "".join(kitaru.llm(f"{n} {turn}") for turn in range(4))

    def status(n: int) -> str:
        return str(one.run(n).settle())

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(status, range(6))]
    assert found.count("failed") >= 3
    # One call of each execution may be under way when the budget is used up.
    assert 10 <= len(asked) <= 16
    # Another process has nothing left over.
    budgets._purses.clear()
    with pytest.raises(errors.FlowError, match=r"has used its budget of .* for today"):
        one.run(7).wait()

    @flow(budget=DAY)
    def other() -> str:
        return kitaru.llm("other")

    assert other.run().wait()


def test_chunks_are_taken_once_and_removed_later() -> None:
    store = open_store("memory:chunks")
    purses = [budgets._Purse(store, keys.budget("one", "2020-11-30", "usd"), "e") for _ in range(8)]

    def spend(purse: Any) -> int:
        for spent in range(1_000):
            if not purse.is_filled(100):
                return spent
            purse.take(1)
        raise AssertionError("the chunks have no end")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, purses)) == 100
    store.create(f"{keys.budget('one', '2999-01-01', 'usd')}000", b"e")
    list(gc.collect(store, gc.timedelta(days=1)))
    assert store.list(keys.BUDGET) == ["budget/one/2999-01-01/usd/000"]


@pytest.mark.parametrize(
    "budget", [{"euros": 1}, {"usd": 0}, {"usd": "5"}, {"tokens": True}, 5, {"usd": float("nan")}]
)
def test_a_wrong_budget_is_refused(budget: Any) -> None:
    def one() -> None: ...

    with pytest.raises(errors.UsageError, match="budget"):
        flow(budget=budget)(one)


SOURCE = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def ask(n: int) -> str:
    return kitaru.llm(f"question {n}")

@flow(budget={"tokens": 20})
def asks(n: int) -> str:
    text = ask(n)
    for _ in range(20):
        text = ask(n + len(text))
    return text
"""


@pytest.mark.parametrize("target", ["kubeflow", "airflow", "sagemaker"])
def test_steps_of_a_pipeline_know_what_earlier_ones_spent(target: str, tmp_path: Path) -> None:
    path = tmp_path / "asks.py"
    path.write_text(SOURCE)
    ran = run_dry(path, "asks", {"n": 1}, lambda name: None, tmp_path, target)
    assert ran.status == "failed" and ran.error is not None
    assert ran.error[0].endswith("BudgetExceeded")


def test_people_are_notified_of_a_cost_once(asked: list[str], tmp_path: Path) -> None:
    @flow(budget={"notify_usd": 2.5})
    def costly(count: int) -> None:
        for number in range(count):
            research(str(number))

    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    costly.options(exec_id="cheap").run(2).wait()
    assert store.list(keys.NEWS) == []
    # Two of its results are reused.
    costly.options(exec_id="dear").run(5).wait()
    hint = keys.news_cost("dear", "2.5")
    assert store.list(keys.NEWS) == [hint]
    (shown,) = kitaru.KitaruClient(store).notifications.list("dear")
    assert (shown.event, shown.subject, shown.status) == ("cost", "2.5", "pending")
    with receiving() as receiver:
        kitaru.configure(notify={"team": {"kind": "slack", "url_secret": "SLACK_URL"}})
        os.environ["SLACK_URL"] = receiver.url
        try:
            assert Notifier(store, channels.channels()).look() == 1
        finally:
            kitaru.configure(notify=None)
            del os.environ["SLACK_URL"]
    texts = [block["text"]["text"] for block in receiver.requests[0].document["blocks"]]
    assert texts[0] == "costly has cost more than $2.50"
    assert "Cost so far: $3.00\nTokens: 3,000" in texts[1]
    assert store.list(keys.NEWS) == []
