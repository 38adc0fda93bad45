"""Forms show the fields of an answer in the order in which they were declared."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

import kitaru
from kitaru import KitaruClient, flow
from kitaru.ops.inbox import inbox
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import WaitRequest
from kitaru.wire.schema_order import in_order, with_order


class Line(BaseModel):
    name: str
    amount: int


class Decision(BaseModel):
    verdict: str
    changes: list[Line]
    sign_by: str | None = None
    limit_eur: float = 0
    note: str = ""


RAW = {
    "type": "object",
    "properties": {"verdict": {"enum": ["yes", "no"]}, "amount": {"type": "integer"}},
    "required": ["verdict"],
}


def asked(store: MemoryStore, schema: Any) -> dict[str, Any]:
    @flow
    def asking() -> Any:
        return kitaru.wait(name="ok", schema=schema)

    handle = asking.options(store=store, exec_id="asking-1").run()
    handle.settle(60)
    [wait] = KitaruClient(store).executions.get("asking-1").to_dict()["waits"]
    assert inbox(store).items[0].request.schema == wait["schema"]
    return dict(wait["schema"])


def test_the_fields_of_a_model() -> None:
    schema = asked(MemoryStore("memory:model"), Decision)
    assert list(schema["properties"]) == ["verdict", "changes", "sign_by", "limit_eur", "note"]
    assert list(schema["$defs"]["Line"]["properties"]) == ["name", "amount"]
    assert "order" not in str(schema)


def test_the_properties_of_a_json_schema() -> None:
    store = MemoryStore("memory:raw")
    schema = asked(store, RAW)
    assert (schema, list(schema["properties"])) == (RAW, ["verdict", "amount"])
    client = KitaruClient(store)
    handle = client.executions.input("asking-1", {"verdict": "yes", "amount": 3})
    assert handle.wait(60) == {"verdict": "yes", "amount": 3}


@pytest.mark.parametrize(
    "schema",
    [
        {}, True, {"properties": {"a": {}, "b": {}}}, {"properties": {"b": {}, "a": {}}},
        {"properties": {"properties": {"properties": {"z": {}, "y": {}}}, "a": {"const": [{}]}}},
        {"anyOf": [{"properties": {"b": {}, "a": {}}}, {"type": "null"}]},
        {"const": {"properties": {"b": 1, "a": 2}}},
        {"properties": ["b", "a"]},
    ],
)  # fmt: skip
def test_a_record_keeps_the_order(schema: Any) -> None:
    assert in_order(with_order(schema)) == schema
    store = MemoryStore()
    from tests.journal.harness import execution

    journal = Journal.create(store, execution(store))
    at = "2026-01-01T00:00:00.000000Z"
    held = journal.request_wait(WaitRequest("ok", "?", schema, {}, at))
    read = Journal.open(store, journal.exec_id).wait_request("ok")
    assert read is not None and repr(read) == repr(held)
    assert _orders(read.schema) == _orders(schema)
    # The same question is no new one.
    assert journal.request_wait(WaitRequest("ok", "?", schema, {}, at)).revision == 0


def _orders(schema: Any) -> list[list[str]]:
    if isinstance(schema, list):
        return [order for part in schema for order in _orders(part)]
    if not isinstance(schema, dict):
        return []
    found = schema.get("properties")
    own = [list(found)] if isinstance(found, dict) else []
    return own + [order for name in sorted(schema) for order in _orders(schema[name])]
