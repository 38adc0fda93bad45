"""Behaviours of waits: suspend, answer from anywhere, resume; nothing of the flow is unwound."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import pydantic
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.runtime.engine.local_run import LocalRun
from tests.sdk.conftest import Script
from tests.waiting import wait_until

SOURCE = """\
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def draft(topic):
    note("draft")
    return "draft of " + topic


@checkpoint
def publish(text):
    note("publish")
    return text.upper()


@flow
def review(topic):
    text = draft(topic)
    if not kitaru.wait(name="approve", question=f"Approve {text}?", metadata={"by": "me"}):
        return "rejected"
    return publish(text)


@flow
def swallowing(topic):
    try:
        try:
            draft(topic)
            kitaru.wait(name="approve")
        finally:
            note("finally")
            publish("from finally")
    except:
        note("except")
        publish("from except")
    return "ended"


if __name__ == "__main__":
    handle = review.options(exec_id="as-script").run("kayaks")
    print(handle.settle())
"""


class Verdict(pydantic.BaseModel):
    ok: bool
    score: int = pydantic.Field(ge=0, le=10)


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number


@dataclass
class Plain:
    words: list[str]


def test_the_process_may_end_and_another_one_answers(script: Callable[[str], Script]) -> None:
    flows = script(SOURCE)
    code, output, log = flows.run(
        "handle = flows.review.options(exec_id='e1').run('kayaks')\nprint(handle.settle())"
    )
    assert (code, output) == (0, "waiting"), log
    view = KitaruClient().executions.get("e1")
    document = view.to_dict()
    assert [(i["id"], i["status"]) for i in document.pop("invocations")] == [("draft", "completed")]
    (counted,) = document.pop("counts")
    assert (counted["count"], counted["failed"], counted["reused"]) == (1, 0, 0)
    assert document == {
        "exec_id": "e1",
        "flow": "review",
        "deployment": "",
        "status": "waiting",
        "started_at": document["started_at"],
        "last_sign": view.last_sign,
        "silent_since": "",
        "under_way": [],
        "progress": [],
        "tags": {},
        "answers": [],
        "signals": [],
        "own": document["effort"],
        "failed_attempts": {"tokens": 0, "cost": None, "seconds": 0.0},
        "unpriced": 0,
        "calls": [],
        "submission": None,
        "inputs": {"topic": "kayaks"},
        "result": None,
        "waits": [
            {
                "name": "approve",
                "question": "Approve draft of kayaks?",
                "schema": {"type": "boolean"},
                "metadata": {"by": "me"},
                "evidence": [],
                "asked_at": view.waits[0].asked_at,
                "position": 2,
                "refused": "",
                "deadline": "",
                "escalations": [],
            }
        ],
        "timers": [],
        "events": [],
        "started_by": "",
        "cancelled_by": "",
        "waits_for": [],
        "parent": "",
        "children": [],
        "error": None,
        "notes": {},
        "attempts": [],
        "attempts_total": 0,
        "total": 1,
        "next": None,
        "effort": {"tokens": 0, "cost": None, "seconds": document["effort"]["seconds"]},
        "replay": None,
        "unasked": [],
        "codes": [
            {
                "fingerprint": view.journal.execution.code,
                "at": document["started_at"],
                "process": "",
            }
        ],
    }
    assert flows.answer("e1", True) == "completed"
    assert KitaruClient().executions.get("e1").result == "DRAFT OF KAYAKS"
    assert flows.calls() == ["draft", "publish"]


def test_false_takes_the_early_return(script: Callable[[str], Script]) -> None:
    flows = script(SOURCE)
    flows.run("flows.review.options(exec_id='e1').run('kayaks').settle()")
    assert flows.answer("e1", False) == "completed"
    assert KitaruClient().executions.get("e1").result == "rejected"
    assert flows.calls() == ["draft"]


def test_a_script_is_resumed_under_its_lasting_name(script: Callable[[str], Script]) -> None:
    flows = script(SOURCE)
    ran = subprocess.run(
        [sys.executable, flows.file.name], cwd=flows.file.parent, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "waiting", ran.stderr
    assert flows.answer("as-script", True) == "completed"
    assert flows.calls() == ["draft", "publish"]


def test_a_living_script_goes_on_by_itself(script: Callable[[str], Script]) -> None:
    flows = script(SOURCE)
    process = flows.start(
        "handle = flows.review.options(exec_id='e1').run('kayaks')\n"
        "print(handle.settle(), flush=True)\nprint(handle.wait())"
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "waiting"
    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores import open_store
    from kitaru.wire.records import WaitAnswer

    Journal.open(open_store(), "e1").answer(WaitAnswer("approve", "value", True))
    output, log = process.communicate(timeout=240)
    assert output.strip() == "DRAFT OF KAYAKS", log
    assert flows.calls() == ["draft", "publish"]


def test_suspension_is_no_exception_of_the_flows(script: Callable[[str], Script]) -> None:
    """Neither `finally` nor a bare `except` sees it, in the run or when the process ends."""
    flows = script(SOURCE)
    code, output, _ = flows.run(
        "handle = flows.swallowing.options(exec_id='e1').run('kayaks')\nprint(handle.settle())"
    )
    assert (code, output, flows.calls()) == (0, "waiting", ["draft"])
    view = KitaruClient().executions.get("e1")
    assert [record.id for record in view.invocations] == ["draft"]
    assert flows.answer("e1", True) == "completed"
    assert flows.calls() == ["draft", "finally", "publish"]


def test_the_answer_is_typed() -> None:
    @flow
    def asks(which: int):
        schemas = [bool, int, float, str, list, dict, Verdict, Plain, Literal["a", "b"], date]
        found = kitaru.wait(schema=schemas[which])
        return [type(found).__name__, found]

    good: list[Any] = [
        True, 3, 2, "x", [1], {"a": 1}, {"ok": True, "score": 3}, {"words": ["w"]}, "b",
        "2026-02-28",
    ]  # fmt: skip
    bad: list[Any] = [
        "true", True, "1.5", 5, {}, [], {"ok": True, "score": 11}, {"words": [1]}, "c",
        "2026-02-29",
    ]  # fmt: skip
    types = ["bool", "int", "float", "str", "list", "dict", "Verdict", "Plain", "str", "date"]
    for which, name in enumerate(types):
        handle = asks.run(which)
        assert handle.settle() == "waiting"
        with pytest.raises(errors.AnswerInvalid, match="schema"):
            KitaruClient().executions.input(handle.exec_id, bad[which])
        assert handle.status == "waiting"
        KitaruClient().executions.input(handle.exec_id, good[which])
        assert handle.wait()[0] == name


def test_an_answer_that_only_the_type_refuses_leaves_it_waiting() -> None:
    ran = []

    @checkpoint
    def draft() -> str:
        ran.append("draft")
        return "text"

    @flow
    def asks() -> int:
        draft()
        return kitaru.wait(name="ok", schema=Even).number

    handle = asks.run()
    handle.settle()
    client = KitaruClient()
    for number in (1, 3):
        client.executions.input(handle.exec_id, {"number": number})
        wait_until(lambda: handle._journal.wait_answer("ok") is None)
        (wait,) = client.executions.get(handle.exec_id).to_dict()["waits"]
        assert wait["refused"].endswith("does not fit: number: Value error, odd.")
    client.executions.input(handle.exec_id, {"number": 2})
    assert (handle.wait(60), ran) == (2, ["draft"])
    assert client.executions.get(handle.exec_id).waits == ()


def test_why_an_answer_is_none_is_kept_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another word than that of a secret which another test reads: those stay known to the process.
    monkeypatch.setenv("TEAM_PASSWORD", "battery-staple")

    class Login(pydantic.BaseModel):
        word: str

        @pydantic.field_validator("word")
        @classmethod
        def known(cls, word: str) -> str:
            raise ValueError(f"{word} is not known")

    @flow
    def asks() -> None:
        kitaru.wait(name="ok", schema=Login)

    handle = asks.run()
    handle.settle()
    KitaruClient().executions.input(handle.exec_id, {"word": "battery-staple"})
    wait_until(lambda: handle._journal.wait_answer("ok") is None)
    assert handle._journal.refused("ok").endswith("word: Value error, *** is not known.")


def test_a_schema_that_json_cannot_express_is_refused_when_it_is_asked() -> None:
    @flow
    def asks():
        return kitaru.wait(schema=threading.Lock)

    with pytest.raises(errors.FlowError) as failure:
        asks.run().wait()
    assert isinstance(failure.value.__cause__, errors.UsageError)


def asking(times: int = 1) -> Any:
    @flow
    def asks() -> list:
        return [kitaru.wait(name="ok", schema=int) for _ in range(times)]

    return asks


def test_the_first_answer_wins() -> None:
    handle = asking().run()
    handle.settle()
    client = KitaruClient()
    assert client.executions.input(handle.exec_id, 1).wait() == [1]
    assert client.executions.input(handle.exec_id, 1).wait() == [1]
    assert client.executions.input(handle.exec_id, 1, wait="ok").wait() == [1]
    with pytest.raises(errors.WaitConflict, match="answered with 1"):
        client.executions.input(handle.exec_id, 2)


def test_who_answers_while_it_is_being_parked_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    park = LocalRun.suspend

    def answered(run: LocalRun, wait: str) -> None:
        KitaruClient().executions.input(run.journal.exec_id, 7)
        park(run, wait)

    monkeypatch.setattr(LocalRun, "suspend", answered)
    handle = asking().run()
    # Nobody waits with the handle, which would wake it.
    wait_until(lambda: handle.status == "completed")
    assert handle.get() == [7]


def test_waits_in_a_loop_have_ids_of_their_own() -> None:
    handle = asking(3).run()
    for number, name in enumerate(["ok", "ok_2", "ok_3"]):
        assert handle.settle() == "waiting"
        (pending,) = KitaruClient().executions.get(handle.exec_id).waits
        assert pending.name == name
        KitaruClient().executions.input(handle.exec_id, number)
        handle.settle() if number == 2 else handle._wait(5, until_waiting=True)
    assert handle.wait() == [0, 1, 2]


def test_unknown_waits_and_executions_are_told_apart() -> None:
    client = KitaruClient()
    handle = asking().run()
    handle.settle()
    with pytest.raises(errors.NotFound, match="other"):
        client.executions.input(handle.exec_id, 1, wait="other")
    with pytest.raises(errors.NotFound, match="nowhere"):
        client.executions.input("nowhere", 1)

    @flow
    def silent() -> int:
        return 1

    ended = silent.run()
    ended.wait()
    with pytest.raises(errors.StateError, match="waits for nothing"):
        client.executions.input(ended.exec_id, 1)


def test_abort_cancels_and_nothing_later_runs() -> None:
    later: list[int] = []

    @checkpoint
    def publish() -> None:
        later.append(1)

    @flow
    def asks() -> None:
        kitaru.wait()
        publish()

    handle = asks.run()
    handle.settle()
    assert KitaruClient().executions.abort(handle.exec_id).status == "cancelled"
    with pytest.raises(errors.StateError, match="cancelled"):
        handle.wait(60)
    assert (handle.status, later) == ("cancelled", [])
    with pytest.raises(errors.StateError, match="cancelled"):
        asks.resume(handle.exec_id)
    with pytest.raises(errors.WaitConflict, match="aborted"):
        KitaruClient().executions.input(handle.exec_id, True)


def test_a_timeout_looks_for_the_answer_before_it_suspends() -> None:
    @flow
    def asks() -> bool:
        return kitaru.wait(name="ok", timeout=240)

    handle = asks.run()
    from kitaru.wire.records import WaitAnswer

    wait_until(lambda: handle._journal.wait_request("ok") is not None)
    handle._journal.answer(WaitAnswer("ok", "value", True))
    assert handle.wait(60) is True
    states = {handle._journal.state().status}
    assert states == {"completed"}


def test_what_was_submitted_is_recorded_before_the_process_ends(
    script: Callable[[str], Script],
) -> None:
    flows = script(
        SOURCE
        + """

@checkpoint
def slow():
    import time
    time.sleep(0.5)
    note("slow")
    return 1


@flow
def beside():
    future = slow.submit()
    kitaru.wait(name="ok")
    return future.result()
"""
    )
    flows.run("print(flows.beside.options(exec_id='e1').run().settle())")
    assert [r.id for r in KitaruClient().executions.get("e1").invocations] == ["slow"]
    assert flows.answer("e1", True) == "completed"
    assert flows.calls() == ["slow"]


def test_a_wait_that_looks_for_its_answer_is_waiting() -> None:
    @flow
    def main() -> bool:
        return kitaru.wait(name="ok", timeout=timedelta(minutes=5))

    handle = main.run()
    client = KitaruClient()
    wait_until(lambda: handle.status == "waiting")
    assert [wait.name for wait in client.executions.get(handle.exec_id).waits] == ["ok"]
    client.executions.input(handle.exec_id, True)
    assert handle.wait() is True
    assert handle.status == "completed"


@pytest.mark.parametrize("timeout", ["5", -1, True, float("inf"), float("nan"), [1]])
def test_a_timeout_that_is_not_a_time_is_refused(timeout: Any) -> None:
    @flow
    def main() -> bool:
        return kitaru.wait(name="ok", timeout=timeout)

    with pytest.raises(errors.FlowError, match="timeout"):
        main.run().wait()


def test_no_schema_and_no_timeout_are_the_defaults() -> None:
    @flow
    def main() -> bool:
        return kitaru.wait(name="ok", schema=None, timeout=None)

    handle = main.run()
    assert handle.settle() == "waiting"
    KitaruClient().executions.input(handle.exec_id, True)
    assert handle.wait() is True


SHARED = [1, 2]


@pytest.mark.parametrize(
    "about",
    [
        {"b": 1, "a": 2},
        {"z": {"y": [1], "x": None}, "a": "é"},
        {"a": 1},
        {},
        {"b": "x" * 300_000, "a": ["é" * 300_000]},
        {"b": SHARED, "a": SHARED},
    ],
    ids=["unsorted", "nested", "one", "none", "large", "shared"],
)
def test_metadata_is_json_in_any_order(about: dict[str, Any]) -> None:
    @flow
    def asks() -> bool:
        return kitaru.wait(name="ok", metadata=about)

    handle = asks.run()
    handle.settle(60)
    [wait] = KitaruClient().executions.get(handle.exec_id).waits
    assert wait.metadata == about


@pytest.mark.parametrize(
    ("about", "place"),
    [
        ({"b": 1, "a": (1,)}, "metadata['a']"),
        ({"a": [{1, 2}]}, "metadata['a'][0]"),
        ({"a": {1: 2}}, "metadata['a']"),
        ([1], "metadata is no dict"),
    ],
)
def test_metadata_that_is_no_json_is_refused_by_its_place(about: Any, place: str) -> None:
    @flow
    def asks() -> bool:
        return kitaru.wait(name="ok", metadata=about)

    with pytest.raises(errors.FlowError, match=re.escape(place)):
        asks.run().wait(60)
