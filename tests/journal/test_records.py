"""Damaged records are reported and never used."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.errors import RecordCorrupt, RecordTooNew, ValueNotEncodable
from kitaru.runtime.journal.journal import Journal
from kitaru.wire import envelope
from kitaru.wire.canonical import dumps, indented
from kitaru.wire.envelope import RECORD_SCHEMA, decode, encode, reread
from kitaru.wire.records import InvocationRecord, StateRecord, StoredValue

from .harness import EXEC

KEY = "x/e/inv/ck"
RECORD = InvocationRecord(
    "ck", "ck", "checkpoint", "m.ck", "sha256:0", "completed", StoredValue({"a": 1}, None, 7, "d")
)
DATA = encode(KEY, "w", RECORD)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


def sealed(line: bytes) -> bytes:
    """What a faulty or hostile writer makes: wrong content under a right checksum."""
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def changed(**changes: Any) -> bytes:
    return sealed(dumps({**json.loads(DATA[:-66]), **changes}))


def test_a_record_comes_back() -> None:
    assert decode(KEY, DATA) == RECORD
    assert reread(DATA) == RECORD


@settings(max_examples=50)
@given(JSON, st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_any_value_and_metadata_come_back(data: Any, metadata: dict[str, Any]) -> None:
    record = InvocationRecord(
        "i", "n", "llm", "c", "", "completed", StoredValue(data), metadata=metadata
    )
    assert decode(KEY, encode(KEY, "w", record)) == record
    assert reread(encode(KEY, "w", record)) == record


def test_every_prefix_is_torn() -> None:
    for end in range(len(DATA)):
        with pytest.raises(RecordCorrupt):
            decode(KEY, DATA[:end])


def test_every_flipped_bit_is_noticed() -> None:
    for position in range(len(DATA)):
        for bit in (1, 0x20, 0x80):
            flipped = bytearray(DATA)
            flipped[position] ^= bit
            with pytest.raises(RecordCorrupt):
                decode(KEY, bytes(flipped))


def test_a_record_at_another_key_is_noticed() -> None:
    with pytest.raises(RecordCorrupt, match="written as 'x/e/inv/ck'"):
        decode("x/e/inv/other", DATA)


def test_a_newer_schema_says_what_to_upgrade() -> None:
    with pytest.raises(RecordTooNew, match="Upgrade Kitaru"):
        decode(KEY, changed(schema=RECORD_SCHEMA + 1, kind="from the future"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        DATA[:-66].replace(b'"schema":2', b'"schema":2,"schema":2'),
        DATA[:-66].replace(b'"attempts":1', b'"attempts":NaN'),
        DATA[:-66].replace(b'"attempts":1', b'"attempts": 1'),
        DATA[:-66].replace(b'"attempts":1', b'"attempts":1,"more":2'),
        DATA[:-66].replace(b'"attempts":1,', b""),
        DATA[:-66].replace(b'"$stored"', b'"$other"'),
        DATA[:-66].replace(b'"encoding":"value/1",', b'"unknown":"value/1",'),
    ],
    ids=map(str, range(12)),
)
def test_wrong_content_under_a_right_checksum(line: bytes) -> None:
    assert line != DATA[:-66]
    with pytest.raises(RecordCorrupt):
        decode(KEY, sealed(line))


@pytest.mark.parametrize(
    "changes",
    [{"kind": "nonsense"}, {"kind": "state"}, {"schema": 0}, {"schema": "1"}, {"body": []}],
)
def test_wrong_fields_under_a_right_checksum(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordCorrupt):
        decode(KEY, changed(**changes))


def test_a_record_of_another_kind_is_not_used(journal: Journal) -> None:
    key = f"x/{EXEC}/inv/ck"
    journal.store.create(key, encode(key, "w", StateRecord(1, "running", "")))
    with pytest.raises(RecordCorrupt, match="StateRecord"):
        journal.invocation("ck")


def test_a_corrupt_record_is_never_absence(journal: Journal) -> None:
    journal.store.create(f"x/{EXEC}/inv/ck", DATA)
    for read in (lambda: journal.invocation("ck"), journal.invocations):
        with pytest.raises(RecordCorrupt):
            read()
    with pytest.raises(RecordCorrupt):
        journal.record(RECORD)


def test_a_record_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_RECORD_BYTES", 100)
    with pytest.raises(ValueNotEncodable, match="at most 100"):
        encode(KEY, "w", RECORD)


@pytest.mark.parametrize("value", [float("inf"), {1}, object()])
def test_metadata_that_is_not_json_is_refused(value: object) -> None:
    record = InvocationRecord("i", "n", "log", "c", "", "completed", metadata={"k": value})
    with pytest.raises(ValueNotEncodable):
        encode(KEY, "w", record)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
@settings(max_examples=50)
def test_indented_json_is_that_of_the_standard_library(document: object) -> None:
    assert indented(document) == json.dumps(document, indent=1, sort_keys=True)


def test_indented_json_contains_no_other_keys_or_values() -> None:
    for document in ({1: 2}, {"a": {None: 1}}, [b"a"], object()):
        with pytest.raises(TypeError):
            indented(document)
