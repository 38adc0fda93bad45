"""Large bytes and texts lie in chunks beside their document: few copies, each verified."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kitaru.errors import RecordCorrupt, StoreUnavailable, ValueNotEncodable, ValueTooLarge
from kitaru.runtime import codec
from kitaru.runtime.codec import builtin_types, digest_arguments, json_fast_path
from kitaru.runtime.codec.subvalues import values_inside
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.to_json import as_json
from kitaru.stores.memory import MemoryStore
from kitaru.wire import canonical, chunked_bytes, keys, redaction
from kitaru.wire.records import StoredValue
from tests.waiting import attempts

HOME = "x/e/"


class Unkept:
    def __init__(self, held: bytes) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return Unkept, (self.held,)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a part of what has 100 bytes, and chunks of at most 40."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield


def make_small(patch: pytest.MonkeyPatch) -> None:
    for module in (builtin_types, json_fast_path, codec):
        patch.setattr(module, "PART_BYTES", 100)
    patch.setattr(chunked_bytes, "CHUNK_BYTES", 40)


def kept(value: Any, store: MemoryStore, **options: Any) -> StoredValue:
    return blobs.keep(store, HOME, value, "result", **options)


def back(stored: StoredValue, store: MemoryStore, **options: Any) -> Any:
    # As a record has it.
    stored = StoredValue(**json.loads(json.dumps(vars_of(stored))))
    return codec.decode(blobs.load_value(store, HOME, stored), **options)


def vars_of(stored: StoredValue) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in StoredValue.__match_args__}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, numpy.ndarray):
        equal = one.dtype == other.dtype and one.shape == other.shape
        return equal and one.tobytes() == other.tobytes() and one.strides == other.strides
    return type(one) is type(other) and bool(one == other)


LARGE: list[Any] = [
    bytes(range(250)),
    bytearray(range(250)),
    "aé€😀\ud800" * 60,
    numpy.arange(60).reshape(6, 10),
    numpy.asfortranarray(numpy.arange(60.0).reshape(6, 10)),
    numpy.array(["2026-11-22"] * 40, "M8[D]"),
    numpy.array(["ab", "é"] * 40),
    numpy.ones((5, 40), bool),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("value", LARGE, ids=lambda value: type(value).__name__)
def test_what_is_large_comes_back(value: Any) -> None:
    store = MemoryStore()
    stored = kept([value, value, {"$kitaru": "part/1"}], store)
    assert stored.blob is None and stored.outside == stored.size - len(canonical.dumps(stored.data))
    chunks = [store.get(key) for key in store.list(f"{HOME}blob/")]
    assert chunks and all(chunk and len(chunk) <= 40 for chunk in chunks)
    first, second, marked = back(stored, store)
    assert first is second or type(value) is str
    assert same(first, value) and marked == {"$kitaru": "part/1"}
    # Without parts a document is whole, and the same value.
    whole = json.loads(canonical.dumps(codec.encode(value)))
    assert same(codec.decode(whole), value)


@given(st.text(st.characters(exclude_categories=()), min_size=100, max_size=400))
@example("\ud83d\ude00" * 60)
def test_no_chunk_ends_within_a_character(text: str) -> None:
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        assert back(kept(text, store), store) == text


@pytest.mark.usefixtures("small")
def test_a_large_text_is_shown_and_large_bytes_are_base64() -> None:
    store = MemoryStore()
    stored = kept(["x" * 200, b"\0" * 300], store)
    assert as_json(blobs.load_value(store, HOME, stored)) == ["x" * 200, "AAAA" * 100]


@pytest.mark.usefixtures("small")
def test_a_pickle_is_a_part_too() -> None:
    store = MemoryStore()
    stored = kept(Unkept(b"z" * 500), store, may_pickle=codec.always)
    assert stored.outside > 500
    assert back(stored, store, unpickle=True).held == b"z" * 500


@pytest.mark.usefixtures("small")
def test_digests_tell_by_content_whatever_is_a_part() -> None:
    def digest(value: Any) -> str:
        return digest_arguments((value,), {}).digest

    assert digest(b"a" * 200) == digest(bytes(b"a" * 200)) != digest(b"a" * 199 + b"b")
    assert digest("a" * 200) == digest("a" * 200) != digest("a" * 201)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("item", ["x" * 200, b"x" * 200])
def test_lineage_knows_a_large_item_of_a_result(item: Any) -> None:
    stored = kept([item, 1], MemoryStore())
    found = [canonical.digest(part) for part in values_inside(stored.data, 1)]
    assert canonical.digest(codec.encode(item, parts=True)) in found


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", [None, b"", b"x" * 40])
def test_a_damaged_chunk_is_never_handed_out(damage: bytes | None) -> None:
    store = MemoryStore()
    stored = kept([b"a" * 100, b"b" * 100], store)
    key = store.list(f"{HOME}blob/")[0]
    store.delete(key)
    if damage is not None:
        store.create(key, damage)
    with pytest.raises(RecordCorrupt, match="missing or damaged"):
        back(stored, store)


@pytest.mark.usefixtures("small")
def test_another_owner_gets_its_own_copy() -> None:
    store = MemoryStore()
    stored = kept(b"a" * 100 + b"b" * 100, store)
    copied = blobs.copy_value(store, HOME, "x/f/", stored)
    assert blobs.shared(stored, HOME).home == HOME
    store.delete(*store.list(HOME))
    assert codec.decode(blobs.load_value(store, "x/f/", copied)) == b"a" * 100 + b"b" * 100


class Failing(MemoryStore):
    """Fails at one create, and counts them."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        self.left -= 1
        if self.left == 0:
            raise StoreUnavailable("no answer")
        return super().create_all(objects)


@pytest.mark.usefixtures("small")
def test_a_failure_in_the_middle_leaves_chunks_that_the_next_attempt_uses() -> None:
    value = bytes(range(256)) * 4
    for at in attempts():
        store = Failing(at)
        try:
            kept(value, store)
        except StoreUnavailable:
            assert back(kept(value, store), store) == value
        else:
            break
    assert at == 8


@pytest.mark.usefixtures("small")
def test_a_value_that_changes_meanwhile_is_not_recorded() -> None:
    value = bytearray(b"a" * 400)

    class Changing(MemoryStore):
        def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
            value[-1] += 1
            return super().create_all(objects)

    with pytest.raises(ValueNotEncodable, match="changed while it was recorded"):
        kept(value, Changing())


@pytest.mark.usefixtures("small")
def test_a_secret_in_a_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    redaction.register_value("API_KEY", "q7Zp2LxV9c")
    for value in ("x" * 200 + "q7Zp2LxV9c", b"x" * 200 + b"q7Zp2LxV9c"):
        with pytest.raises(ValueNotEncodable, match="secret API_KEY"):
            codec.encode({"deep": [value]}, parts=True)


def test_recording_and_reading_hold_few_copies() -> None:
    size = 64_000_000
    for value in (bytes(size), bytearray(size), "x" * size, numpy.zeros(size, "u1")):
        store = MemoryStore()
        assert _peak(lambda value=value, store=store: kept(value, Dropping())) < size  # type: ignore[misc]
        stored = kept(value, store)
        # The value itself, and its chunks before they are joined where it cannot be filled.
        most = 1.2 if isinstance(value, bytearray | numpy.ndarray) else 2.2
        assert _peak(lambda store=store, stored=stored: back(stored, store)) < most * size  # type: ignore[misc]


class Dropping(MemoryStore):
    """Takes everything and keeps nothing."""

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [True for _ in objects]


def _peak(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_too_large_says_which_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MAX_VALUE_BYTES", 2_000_000)
    value = {"notes": ["a"], "pages": [b"short", bytes(3_000_000)]}
    store = MemoryStore()
    with pytest.raises(ValueTooLarge) as caught:
        kept(value, store)
    assert caught.value.path == 'result["pages"][1]'
    assert "3,000,000 bytes" in caught.value.message and "2,000,000" in caught.value.message
    assert not store.list("")
    monkeypatch.setattr(blobs, "MAX_DOCUMENT_BYTES", 1_000)
    with pytest.raises(ValueTooLarge) as caught:
        kept({"few": [1], "many": [list(range(1000))]}, store)
    assert caught.value.path == 'result["many"][0]'


def test_a_chunk_lies_where_blobs_lie() -> None:
    store = MemoryStore()
    stored = kept(bytes(2_000_000), store)
    (reference,) = (node[1] for node in stored.data["nodes"])
    (hash,) = reference["chunks"]
    assert store.list(HOME) == [keys.blob(HOME, hash)]
