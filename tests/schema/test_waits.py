"""Waits with a JSON schema: refused when asked, checked when answered, read in the flow."""

from __future__ import annotations

from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, errors, flow

AGE = {"properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
ORDER = {"type": "array", "items": AGE, "uniqueItems": True, "maxItems": 2}
SLOW = {"type": "string", "pattern": r"^([a-z]+)*\1$"}


@flow
def asking(schema: Any) -> Any:
    return kitaru.wait(name="order", schema=schema)


@flow
def counting() -> int:
    number: int = kitaru.wait(name="n", schema=int)
    return number


@pytest.fixture
def client(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> KitaruClient:
    monkeypatch.setenv("KITARU_STORE", f"sqlite:{tmp_path / 'k.db'}")
    return KitaruClient(f"sqlite:{tmp_path / 'k.db'}")


def test_an_answer_is_refused_with_its_place_until_it_fits(client: KitaruClient) -> None:
    handle = asking.run(ORDER)
    assert handle.settle(60) == "waiting"
    for value, reason in (
        ([{"age": -1}], r"\[0\]\.age: -1 is less than the minimum of 0"),
        ([{"age": 1}, {"age": 1.0}], "non-unique"),
        ([{}], r'\[0\]: "age" is a required property'),
    ):
        with pytest.raises(errors.AnswerInvalid, match=reason):
            client.executions.input(handle.exec_id, value)
        assert client.executions.get(handle.exec_id).waits
    client.executions.input(handle.exec_id, [{"age": 2**53 + 1}])
    assert handle.wait(60) == [{"age": 2**53 + 1}]


@pytest.mark.timeout(30)
def test_a_pattern_cannot_hang_the_process_that_answers(client: KitaruClient) -> None:
    handle = asking.run(SLOW)
    assert handle.settle(60) == "waiting"
    with pytest.raises(errors.AnswerInvalid, match="takes too long"):
        client.executions.input(handle.exec_id, "a" * 5_000 + "!")
    client.executions.cancel(handle.exec_id)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"$ref": "#/$defs/order"}, r"\$ref"),
        ({"format": "phone"}, "format"),
        ({"minItem": 1}, "minItems"),
    ],
)
def test_a_schema_that_cannot_be_honoured_fails_the_flow_where_it_asks(
    client: KitaruClient, schema: dict[str, Any], keyword: str
) -> None:
    with pytest.raises(errors.FlowError, match=rf'wait "order" cannot be honoured: .*{keyword}'):
        asking.run(schema).wait(60)


@pytest.mark.parametrize(("value", "number"), [(3.0, 3), (2**53 + 1, 2**53 + 1), (10**30, 10**30)])
def test_numbers_are_those_of_json(client: KitaruClient, value: Any, number: int) -> None:
    handle = counting.run()
    assert handle.settle(60) == "waiting"
    for wrong in (2.5, True, "3"):
        with pytest.raises(errors.AnswerInvalid, match="not of type"):
            client.executions.input(handle.exec_id, wrong)
    client.executions.input(handle.exec_id, value)
    found = handle.wait(60)
    assert found == number and type(found) is int
