"""What people watch while an execution runs: progress, events and streamed text, never recorded."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, config, errors, flow, harness
from kitaru.runtime.llm import providers
from kitaru.runtime.telemetry import logs
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys, redaction
from tests.waiting import wait_until

KEY = "sk-" + "a1B2c3D4" * 4
MODEL = "vendor/m-1"


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    yield
    config.configure(redact=None, logs=None, capture=None)


class Answering:
    """A model that streams a text, and waits in its middle until somebody has seen the half."""

    def __init__(self, text: str = "Once upon a time") -> None:
        self.text = text
        self.was_seen = threading.Event()

    def __call__(self, request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        half = len(self.text) // 2
        for at, character in enumerate(self.text):
            if at == half:
                assert self.was_seen.wait(240)
            pieces.take(character)
        return providers.Answer(self.text, 1, 1, 0.0)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Answering:
    answering = Answering()
    monkeypatch.setattr(providers, "_reach", answering)
    return answering


def watched(exec_id: str, seen: Callable[[str], None] = lambda text: None) -> str:
    """Return the streamed text of an execution that is followed until its end."""
    text = ""
    for line in KitaruClient().executions.logs(exec_id, follow=True):
        if line.stream == logs.MODEL:
            text += line.text
            seen(text)
    return text


def of(handle: Any, stream: str) -> list[Any]:
    lines = KitaruClient().executions.logs(handle.exec_id)
    return [(line.invocation, json.loads(line.text)) for line in lines if line.stream == stream]


@pytest.mark.parametrize("where", ["body", "checkpoint"])
def test_a_watcher_reads_the_text_while_the_model_answers(model: Answering, where: str) -> None:
    def ask() -> str:
        return kitaru.llm("x", model=MODEL, stream=True)

    @checkpoint(cache=False)
    def asks() -> str:
        return ask()

    @flow
    def streams() -> str:
        return ask() if where == "body" else asks()

    handle = streams.run()
    halves: list[str] = []

    def seen(text: str) -> None:
        halves.append(text)
        model.was_seen.set()

    assert watched(handle.exec_id, seen) == "Once upon a time"
    assert halves[0] in ("Once ", "Once upon ") and len(halves) > 1
    assert handle.wait(60) == "Once upon a time"
    # The record has the text once, and the log is without it.
    assert list(KitaruClient().executions.logs(handle.exec_id)) == []
    before = watched(handle.exec_id)
    assert streams.resume(handle.exec_id).wait(60) == "Once upon a time"
    assert watched(handle.exec_id) == before


@pytest.mark.parametrize("off", [{"capture": "metadata"}, {"logs": False}])
def test_what_is_not_recorded_is_not_shown(model: Answering, off: dict[str, Any]) -> None:
    model.was_seen.set()
    config.configure(**off)
    pieces: list[str] = []

    @flow
    def streams() -> str:
        kitaru.emit({"n": 1}) if "logs" in off else None
        return kitaru.llm("x", model=MODEL, stream=pieces.append)

    handle = streams.run()
    handle.wait(60)
    assert "".join(pieces) == model.text
    assert watched(handle.exec_id) == "" and of(handle, logs.EVENT) == []


def test_a_step_of_a_harness_shows_its_text_too() -> None:
    heard: list[Any] = []

    async def body() -> str:
        for word in ("Hello ", "there ", "you"):
            harness.emit({"word": word}, word)
        return "Hello there you"

    @flow
    async def agent() -> str:
        with harness.listen(heard.append):
            return str(await harness.step("model", body, kind="llm"))

    handle = agent.run()
    assert handle.wait(60) == "Hello there you"
    assert watched(handle.exec_id) == "Hello there you"
    assert [one["word"] for one in heard] == ["Hello ", "there ", "you"]


SECRETS = {
    "by value": "correct horse battery staple",
    "by shape": KEY,
    "after a word": "Bearer abcDEF0123456789xyz==",
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("seed", range(8))
def test_no_cut_of_the_pieces_shows_a_secret(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    if name == "by value":
        redaction.register_value("PASSPHRASE", SECRETS[name])
    chance = random.Random(seed)
    said = "word " * chance.choice([2, 900, 2_000])
    text = f"{said}the key is {SECRETS[name]} and more, über 日本語です. " + said
    log = logs.Log(MemoryStore("memory:live"), "e1")
    live = log.text("llm")
    shown, rest = "", text
    while rest:
        size = chance.choice([1, 2, 7, 40, 3_000])
        live.extend(rest[:size])
        rest = rest[size:]
        if chance.random() < 0.5:
            shown += live.next(is_last=False)
    live.close()
    shown += live.next(is_last=True)
    assert live.is_over
    assert shown == redaction.redacted(text)
    assert "***" in shown


def test_words_are_shown_as_soon_as_they_end_and_other_scripts_at_once() -> None:
    live = logs.Log(MemoryStore("memory:words"), "e1").text("llm")
    live.extend("one tw")
    assert live.next(is_last=False) == "one "
    live.extend("o 日本")
    assert live.next(is_last=False) == "two 日本"
    assert live.next(is_last=False) == ""


def test_progress_in_a_loop_costs_a_few_objects() -> None:
    many = 20_000

    @checkpoint(cache=False)
    def works() -> None:
        for number in range(many):
            kitaru.progress(number + 1, many, f"item {number}")

    @flow
    def loops() -> None:
        kitaru.progress(1, 2, "works")
        works()
        kitaru.progress(2, 2)
        kitaru.wait(name="ok")

    client = KitaruClient()
    handle = loops.run()
    assert handle.settle(240) == "waiting"
    found = of(handle, logs.PROGRESS)
    assert ("works", {"done": many, "total": many, "note": f"item {many - 1}"}) in found
    assert len(found) < many / 100
    wait_until(lambda: client.executions.get(handle.exec_id).progress)
    shown = client.executions.get(handle.exec_id).to_dict()["progress"]
    assert [(one["id"], one["done"], one["total"]) for one in shown] == [("", 2, 2)]
    assert len(client.store.list(keys.beats(handle.exec_id))) == 1
    client.executions.input(handle.exec_id, True).wait(60)
    assert client.executions.get(handle.exec_id).progress == ()


def test_progress_is_shown_while_a_checkpoint_runs() -> None:
    go_on = threading.Event()

    @checkpoint(cache=False)
    def works() -> None:
        kitaru.progress(3, None, "x" * 500)
        assert go_on.wait(240)

    @flow
    def one() -> None:
        works()

    client = KitaruClient()
    handle = one.run()
    wait_until(lambda: client.executions.get(handle.exec_id).progress)
    [found] = client.executions.get(handle.exec_id).progress
    assert (found.id, found.done, found.total, found.note) == ("works", 3, None, "x" * 200)
    go_on.set()
    handle.wait(60)


def test_events_are_in_order_with_their_invocation_and_without_secrets() -> None:
    config.configure(redact=lambda text: text.replace("maria", "***"))

    @checkpoint(cache=False)
    def acts(n: int) -> None:
        kitaru.emit({"n": n, "key": KEY, "who": "maria"})
        kitaru.emit([n, "a\nb"])

    @flow
    def emits() -> None:
        kitaru.emit("begins")
        acts(1)
        acts(2)

    handle = emits.run()
    handle.wait(60)
    assert of(handle, logs.EVENT) == [
        ("", "begins"),
        ("acts", {"n": 1, "key": "***", "who": "***"}),
        ("acts", [1, "a\nb"]),
        ("acts_2", {"n": 2, "key": "***", "who": "***"}),
        ("acts_2", [2, "a\nb"]),
    ]


@pytest.mark.parametrize("event", [{1, 2}, float("inf"), "x" * 70_000, {1: 2}])
def test_what_is_no_event(event: Any) -> None:
    @flow
    def emits() -> None:
        kitaru.emit(event)

    with pytest.raises(errors.FlowError, match="The event cannot be shown"):
        emits.run().wait(60)


@pytest.mark.parametrize("given", [("1",), (True,), (1, float("nan"))])
def test_what_is_no_progress(given: Any) -> None:
    @flow
    def reports() -> None:
        kitaru.progress(*given)

    with pytest.raises(errors.FlowError, match="is not a finite number"):
        reports.run().wait(60)
    with pytest.raises(errors.ContextError):
        kitaru.progress(1)
    with pytest.raises(errors.ContextError):
        kitaru.emit(1)
