"""The output of a flow is recorded with the invocation that wrote it, without any waiting."""

from __future__ import annotations

import io
import itertools
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.runtime.telemetry import logs, output
from kitaru.runtime.telemetry.output import Tee
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore

KEY = "sk-" + "a1B2c3D4" * 4


Seen = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    yield
    config.configure(redact=None, logs=None, secrets=None, models=None)


def kept(handle: Any, invocation: str | None = None) -> list[tuple[str, str, str]]:
    handle.wait(60)
    lines = KitaruClient().executions.logs(handle.exec_id, invocation)
    return [(line.invocation, line.stream, line.text) for line in lines]


@checkpoint(cache=False)
def says(text: str, times: int = 1) -> str:
    for number in range(times):
        print(f"{text} {number}")
    return text


def test_both_streams_and_the_body(capsys: Seen) -> None:
    @flow
    def body() -> None:
        print("body")
        says("one")
        says("two")
        print("warned", file=sys.stderr)

    handle = body.run()
    assert kept(handle) == [
        ("", "stdout", "body"),
        ("says", "stdout", "one 0"),
        ("says_2", "stdout", "two 0"),
        ("", "stderr", "warned"),
    ]
    assert kept(handle, "says_2") == [("says_2", "stdout", "two 0")]
    assert tuple(capsys.readouterr()) == ("body\none 0\ntwo 0\n", "warned\n")


def test_threads_of_a_fan_out_do_not_mix(capsys: Seen) -> None:
    together = threading.Barrier(4)

    @checkpoint(cache=False)
    def speaks(name: str) -> None:
        together.wait(60)
        for number in range(50):
            for part in (name, " ", str(number), "\n"):
                sys.stdout.write(part)

    @flow
    def body() -> None:
        speaks.map(["a", "b", "c", "d"]).result()

    found = kept(body.run())
    ids = ("speaks", "speaks_2", "speaks_3", "speaks_4")
    for id, name in zip(ids, "abcd", strict=True):
        texts = [text for invocation, _, text in found if invocation == id]
        assert texts == [f"{name} {number}" for number in range(50)]


def test_handlers_that_hold_the_stream(capsys: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever still waits for an answer in this process keeps the streams until it has one.
    monkeypatch.setattr(output, "_captures", 0)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("of-a-flow")
    logger.addHandler(handler)
    logger.propagate = False

    @checkpoint(cache=False)
    def warns() -> None:
        logger.warning("look out")

    @flow
    def body() -> None:
        warns()

    try:
        assert kept(body.run()) == [("warns", "stderr", "WARNING look out")]
        assert handler.stream is sys.stderr and not isinstance(sys.stderr, Tee)
    finally:
        logger.removeHandler(handler)


def test_the_streams_are_given_back(capsys: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_captures", 0)

    @flow
    def body() -> bool:
        return isinstance(sys.stdout, Tee) and isinstance(sys.stderr, Tee)

    before = sys.stdout, sys.stderr
    assert body.run().wait(60) is True
    assert (sys.stdout, sys.stderr) == before


def test_above_a_stream_that_is_put_in_place_for_a_while(capsys: Seen) -> None:
    entered, left = threading.Event(), threading.Event()

    @checkpoint(cache=False)
    def speaks() -> None:
        entered.set()
        left.wait(60)
        print("wide")

    @flow
    def body() -> None:
        speaks()

    class Narrow(io.StringIO):
        def write(self, text: str) -> int:
            return below.write("-".join(text))

    handle = body.run()
    assert entered.wait(60)
    below, narrow = sys.stdout, Narrow()
    sys.stdout = narrow
    with output.on_top():
        left.set()
        assert kept(handle) == [("speaks", "stdout", "wide")]
    assert sys.stdout is narrow
    sys.stdout = below.inner  # type: ignore[attr-defined]
    assert "w-i-d-e" in capsys.readouterr().out


def test_what_is_secret_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_PASSWORD", "correct-horse")
    config.configure(redact=lambda text: text.replace("Ada", "[name]"))

    @flow
    def body() -> None:
        for part in (KEY[:9], KEY[9:], "\nAda has correct-", "horse"):
            sys.stdout.write(part)

    assert [text for _, _, text in kept(body.run())] == ["***", "[name] has ***"]


def test_what_the_settings_call_a_secret_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOUSE", "TEAM_MODEL"):
        monkeypatch.setenv(name, f"the value of {name}")
    model = {"model": "openai/m", "secret": "TEAM_MODEL"}
    config.configure(secrets={"HOUSE": "file:/absent"}, models={"team": model})

    @flow
    def body() -> None:
        print("the value of HOUSE, the value of TEAM_MODEL")

    assert [text for _, _, text in kept(body.run())] == ["***, ***"]


def test_switched_off(capsys: Seen) -> None:
    config.configure(logs=False)
    assert kept(flow(says.function).run("quiet")) == []
    assert capsys.readouterr().out == "quiet 0\n"


def test_a_wait_keeps_what_was_said_before() -> None:
    @flow
    def body() -> None:
        print("before")
        kitaru.wait(name="ok")
        print("after")

    handle = body.run()
    assert handle.settle(60) == "waiting"
    found = KitaruClient().executions
    assert [line.text for line in found.logs(handle.exec_id)] == ["before"]
    found.input(handle.exec_id, True)
    assert [text for _, _, text in kept(handle)] == ["before", "after"]


def test_following_ends_with_the_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PAUSE", 0.01)
    go_on = threading.Event()

    @checkpoint(cache=False)
    def speaks() -> None:
        print("first")
        go_on.wait(60)
        print("last")

    @flow
    def body() -> None:
        speaks()

    handle = body.run()
    texts = []
    for line in KitaruClient().executions.logs(handle.exec_id, "speaks", follow=True):
        texts.append(line.text)
        go_on.set()
    assert texts == ["first", "last"]


def test_chunks_are_bounded_and_in_order() -> None:
    handle = flow(says.function).run("x" * 1000, 500)
    texts = [text for _, _, text in kept(handle)]
    assert [text.partition(" ")[2] for text in texts] == [str(number) for number in range(500)]
    store = open_store()
    sizes = [len(store.get(key) or b"") for key in store.list(f"x/{handle.exec_id}/log/")]
    assert len(sizes) >= 7 and max(sizes) < 100_000


def test_a_very_long_line_is_parted_and_odd_text_is_kept() -> None:
    log = logs.Log(MemoryStore("memory:odd"), "e")
    log.add("", "stdout", "y" * 20_000)
    log.add("", "stdout", "\udc80\x00\x1b[1m\n")
    log.close()
    [(_, lines)] = logs.read(log._record_store.store, "e")
    # Where a line is parted depends on the secrets that the process knows: none is torn.
    assert len(lines) > 1
    assert "".join(line.text for line in lines) == "y" * 20_000 + "\\udc80\x00\x1b[1m"


def test_a_chunk_is_in_the_order_of_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = map(str, itertools.count(1))
    monkeypatch.setattr(logs, "now", lambda: next(moments))
    log = logs.Log(MemoryStore("memory:order"), "e")
    for number, writer in enumerate(("b", "a", "b", "")):
        log.add(writer, "stdout", f"{number}\n")
    log.close()
    [(_, lines)] = logs.read(log._record_store.store, "e")
    assert [line.text for line in lines] == ["0", "1", "2", "3"]


class Failing(MemoryStore):
    """Refuses what is written below `log/`, or lets it wait for ever."""

    def __init__(self, url: str, gate: threading.Event | None = None) -> None:
        super().__init__(url)
        self.broken, self.gate = True, gate

    def create(self, key: str, value: bytes) -> bool:
        if "/log/" in key and self.gate is not None:
            self.gate.wait()
        if "/log/" in key and self.broken:
            raise kitaru.errors.StoreUnavailable("gone")
        return super().create(key, value)


def test_a_lost_log_is_no_lost_record(capsys: Seen) -> None:
    store = Failing("memory:failing")
    handle = flow(says.function).options(store=store).run("lost", 3)
    assert handle.wait(60) == "lost"
    assert list(KitaruClient(store).executions.logs(handle.exec_id)) == []
    assert capsys.readouterr().out.count("\n") == 3


def test_what_was_lost_is_said() -> None:
    store = Failing("memory:said")
    log = logs.Log(store, "e")
    log.add("a", "stdout", "one\ntwo\n")
    log.close()
    store.broken = False
    log.add("a", "stdout", "three\n")
    log.close()
    texts = [line.text for _, lines in logs.read(store, "e") for line in lines]
    assert texts == ["three", "kitaru: 2 lines of output were lost here"]


def test_where_secrets_cannot_be_hidden_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_REDACT", "no function")
    store = MemoryStore("memory:hidden")
    log = logs.Log(store, "e")
    log.add("", "stdout", "plain\n")
    log.close()
    assert list(logs.read(store, "e")) == []


def test_a_store_that_hangs_costs_memory_only_up_to_a_bound() -> None:
    gate = threading.Event()
    log = logs.Log(Failing("memory:hangs", gate), "e")
    for _ in range(300):
        log.add("", "stdout", "z" * 10_000 + "\n")
    log.close(timeout=0.01)
    assert sum(len(line.text) for line in log._lines) <= 16 * 64 * 1024
    gate.set()


PRINTING = """
import gc, io, sys, weakref
from kitaru.runtime.telemetry import output

class Ending(io.StringIO):
    def write(self, text):
        if isinstance(sys.stdout, output.Tee):
            output.end()
        return super().write(text)

stream = sys.stdout = Ending()
output.begin()
held = weakref.ref(sys.stdout)
print("a", "b", "c")
assert stream.getvalue() == "a b c\\n", stream.getvalue()
gc.collect()
assert held() is not None
# The same object serves the next capture, so that captures do not add up.
output.begin()
assert sys.stdout is held()
output.end()
assert sys.stdout is stream
"""


def test_print_survives_the_end_of_a_capture_between_two_texts() -> None:
    """`print` holds no reference to the stream: a freed one would be read after it was freed."""
    # In a process of its own, which may crash, and in which nothing else captures.
    done = subprocess.run([sys.executable, "-c", PRINTING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
