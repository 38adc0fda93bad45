"""The checkpointer for LangGraph: the official conformance suite, and what that does not test."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.checkpoint.conformance")

from langgraph.channels import DeltaChannel
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from kitaru.adapters.langgraph import KitaruSaver
from kitaru.errors import RecordCorrupt, RecordTooNew, UsageError, ValueNotEncodable
from kitaru.ops.backup import backup
from kitaru.stores import Store, open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys, redaction


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Return a function that opens a new store of one kind."""
    names = iter(range(100))
    if request.param == "memory":
        return MemoryStore
    return lambda: open_store(f"sqlite:{tmp_path}/{next(names)}.db")


def test_the_official_conformance_suite(stores: Callable[[], Store]) -> None:
    @checkpointer_test(name="KitaruSaver")
    async def saver() -> AsyncIterator[KitaruSaver]:
        yield KitaruSaver(stores())

    report = asyncio.run(validate(saver))
    failures = {name: result.failures for name, result in report.results.items()}
    assert report.conformance_level() == "FULL", failures
    assert all(result.passed for result in report.results.values()), failures


class Talk(TypedDict):
    said: Annotated[list[str], operator.add]


def talking(saver: KitaruSaver) -> Any:
    """A graph that says a word, asks a person, and says the answer."""

    def greet(state: Talk) -> Talk:
        return {"said": ["hello"]}

    def ask(state: Talk) -> Talk:
        return {"said": [interrupt({"after": len(state["said"])})]}

    builder = StateGraph(Talk)
    builder.add_node("greet", greet)
    builder.add_node("ask", ask)
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


CHAT: Any = {"configurable": {"thread_id": "customer 7/é"}}


def test_another_process_answers_an_interrupt(stores: Callable[[], Store]) -> None:
    store = stores()
    talking(KitaruSaver(store)).invoke({"said": ["hi"]}, CHAT)
    waiting = talking(KitaruSaver(store)).get_state(CHAT)
    assert [each.value for each in waiting.interrupts] == [{"after": 2}]
    done = talking(KitaruSaver(store)).invoke(Command(resume="fine"), CHAT)
    assert done == {"said": ["hi", "hello", "fine"]}


def test_a_graph_in_an_event_loop(stores: Callable[[], Store]) -> None:
    graph = talking(KitaruSaver(stores()))

    async def chat() -> Any:
        await graph.ainvoke({"said": []}, CHAT)
        history = [each.next async for each in graph.aget_state_history(CHAT)]
        return history, await graph.ainvoke(Command(resume="fine"), CHAT)

    history, done = asyncio.run(chat())
    assert history == [("ask",), ("greet",), ("__start__",)]
    assert done == {"said": ["hello", "fine"]}


class Dying(MemoryStore):
    """A store whose process dies before its n-th creation."""

    left: int

    def create(self, key: str, value: bytes) -> bool:
        self._count(1)
        return super().create(key, value)

    def create_all(self, objects: Any) -> list[bool]:
        self._count(len(objects))
        return super().create_all(objects)

    def _count(self, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise KeyboardInterrupt


def test_death_before_each_object_loses_nothing_that_was_saved() -> None:
    for number in range(1, 60):
        store = Dying()
        store.left = number
        try:
            talking(KitaruSaver(store)).invoke({"said": ["hi"]}, CHAT)
            dead = False
        except KeyboardInterrupt:
            dead = True
        store.left = 1_000
        graph = talking(KitaruSaver(store))
        before = graph.get_state(CHAT)
        # A thread continues from its checkpoint; one without a checkpoint begins.
        graph.invoke(None if before.values.get("said") else {"said": ["hi"]}, CHAT)
        done = graph.invoke(Command(resume="fine"), CHAT)
        assert done == {"said": ["hi", "hello", "fine"]}, number
        if not dead:
            return
    raise AssertionError("the graph never ended")


class Long(TypedDict):
    items: Annotated[list[int], DeltaChannel(operator.add, snapshot_frequency=4)]


def test_pruning_keeps_what_a_delta_channel_needs() -> None:
    store = MemoryStore()
    saver = KitaruSaver(store)

    def add(state: Long) -> Long:
        return {"items": [len(state["items"])]}

    builder = StateGraph(Long)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    graph = builder.compile(checkpointer=saver)
    for _ in range(9):
        graph.invoke({"items": [-1]}, CHAT)
    before, objects = graph.get_state(CHAT).values, len(store.list(keys.adapter("langgraph")))
    saver.prune([CHAT["configurable"]["thread_id"]])
    assert graph.get_state(CHAT).values == before
    assert len(store.list(keys.adapter("langgraph"))) < objects / 2
    assert graph.invoke({"items": [-1]}, CHAT)["items"][:-2] == before["items"]


def test_deleting_a_run_keeps_channels_that_other_checkpoints_use() -> None:
    saver = KitaruSaver(MemoryStore())
    graph = talking(saver)
    graph.invoke({"said": ["hi"]}, {**CHAT, "metadata": {"run_id": "one"}})
    graph.invoke(Command(resume="fine"), {**CHAT, "metadata": {"run_id": "two"}})
    saver.delete_for_runs(["one"])
    left = list(saver.list(CHAT))
    assert {each.metadata["run_id"] for each in left} == {"two"}
    assert left[0].checkpoint["channel_values"]["said"] == ["hi", "hello", "fine"]


@dataclass
class Order:
    number: int


class Shop(TypedDict):
    order: Order


def ordering(saver: KitaruSaver) -> Any:
    builder = StateGraph(Shop)
    builder.add_node("take", lambda state: {"order": Order(7)})
    builder.add_edge(START, "take")
    return builder.compile(checkpointer=saver)


def test_an_own_class_is_created_only_if_it_is_allowed() -> None:
    store = MemoryStore()
    ordering(KitaruSaver(store)).invoke({"order": Order(1)}, CHAT)
    with pytest.raises(UsageError, match=r"test_langgraph_saver\.Order") as refused:
        ordering(KitaruSaver(store)).get_state(CHAT)
    assert "allow=" in refused.value.help
    allowed = ordering(KitaruSaver(store, allow=[Order]))
    assert allowed.get_state(CHAT).values == {"order": Order(7)}


class Swapped:
    """A cipher that changes every byte, for what it must show here."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "swapped", bytes(byte ^ 0x55 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return self.encrypt(ciphertext)[1]


def test_an_encrypted_thread() -> None:
    store = MemoryStore()
    saver = KitaruSaver(store, serde=EncryptedSerializer(Swapped()))
    talking(saver).invoke({"said": ["a rare word"]}, CHAT)
    assert talking(saver).get_state(CHAT).values == {"said": ["a rare word", "hello"]}
    assert all(b"a rare word" not in (store.get(key) or b"") for key in store.list(""))


def test_allow_and_serde_contradict() -> None:
    with pytest.raises(UsageError, match="`allow`"):
        KitaruSaver(MemoryStore(), allow=[Order], serde=JsonPlusSerializer())


def test_a_secret_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    redaction.register_value("TOKEN", "s3cr3t-valu3-0123")
    store = MemoryStore()
    with pytest.raises(ValueNotEncodable, match="TOKEN"):
        talking(KitaruSaver(store)).invoke({"said": ["s3cr3t-valu3-0123"]}, CHAT)
    assert all(b"s3cr3t" not in (store.get(key) or b"") for key in store.list(""))


def _first(store: Store, kind: str) -> str:
    return store.list(f"{keys.adapter('langgraph')}{kind}/")[0]


@pytest.mark.parametrize("kind", ["checkpoint", "channel", "write"])
def test_damage_is_an_error_that_names_the_object(kind: str) -> None:
    store = MemoryStore()
    talking(KitaruSaver(store)).invoke({"said": ["hi"]}, CHAT)
    for key in store.list(f"{keys.adapter('langgraph')}{kind}/"):
        store.delete(key)
        store.create(key, b"\xc1 not msgpack")
    with pytest.raises(RecordCorrupt, match=f"/{kind}/"):
        list(KitaruSaver(store).list(CHAT))


def test_a_newer_format_is_not_guessed() -> None:
    store = MemoryStore()
    talking(KitaruSaver(store)).invoke({"said": ["hi"]}, CHAT)
    key = _first(store, "checkpoint")
    body = (store.get(key) or b"").replace(b"\xa6format\x01", b"\xa6format\x02")
    store.delete(key)
    store.create(key, body)
    with pytest.raises(RecordTooNew, match="format 2"):
        KitaruSaver(store).get_tuple(CHAT)


def test_a_backup_contains_the_threads(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path}/live.db")
    talking(KitaruSaver(store)).invoke({"said": ["hi"]}, CHAT)
    backup(store, f"sqlite:{tmp_path}/copy.db")
    copy = KitaruSaver(open_store(f"sqlite:{tmp_path}/copy.db"))
    assert talking(copy).invoke(Command(resume="fine"), CHAT)["said"][-1] == "fine"


class Counting(MemoryStore):
    """A store that counts its requests."""

    requests = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("create", "create_all", "get", "get_all", "list"):
            self.requests += 1
        return super().__getattribute__(name)


def test_reading_the_newest_checkpoint_costs_the_same_in_a_long_thread() -> None:
    def requests_after(turns: int) -> int:
        store = Counting()
        saver = KitaruSaver(store)
        graph = talking(saver)
        for _ in range(turns):
            graph.invoke({"said": ["hi"]}, CHAT)
            graph.invoke(Command(resume="fine"), CHAT)
        store.requests = 0
        saver.get_tuple(CHAT)
        return store.requests

    assert requests_after(1) == requests_after(12)


def _names() -> Iterator[str]:
    yield from ("", "a", "a/b", "a.b", "a b", "é", "\N{OWL}", ".empty", "x" * 300, "x" * 299 + "y")


def test_any_text_is_a_key_of_its_own() -> None:
    parts = [keys.part(name) for name in _names()]
    assert len(set(parts)) == len(parts)
    assert all("/" not in part and len(part) <= 80 for part in parts)


def test_ids_sort_the_other_way_round() -> None:
    ids = ["1f0", "1f0a", "1f1", "2", "é"]
    assert sorted(ids, key=keys.newest_first) == sorted(ids, reverse=True)
