"""Questions of executions over HTTP, and their answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from kitaru import KitaruClient

from .conftest import Running, begin, good, problem

ANSWER = "/executions/waits-1/waits/ok/answer"


def test_the_inbox_lists_all_open_questions(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    begin(service.store, "review", "waits-1", "cats")
    begin(service.store, "two_questions", "waits-2")
    items = service.get("/waits")["items"]
    assert [(one["exec_id"], one["name"]) for one in items] == [
        ("waits-1", "ok"), ("waits-2", "first-one")
    ]  # fmt: skip
    assert items[0]["schema"] == {"type": "boolean"}
    assert items[0]["metadata"] == {"topic": "cats"}
    assert items[0]["asked_at"] > "2026"
    assert [one["exec_id"] for one in service.get("/waits", flow="review")["items"]] == ["waits-1"]
    page = service.get("/waits", limit=1)
    later = service.get("/waits", limit=1, cursor=page["next_cursor"])
    assert [one["exec_id"] for one in later["items"]] == ["waits-2"]
    assert later["next_cursor"] is None
    assert service.get("/executions/waits-1/waits")["items"] == items[:1]
    assert service.get("/executions/done-1/waits")["items"] == []


def test_an_answer_is_recorded(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    found = good(service.post(ANSWER, {"value": True}))
    # The service runs no code of a local execution, and prints who can.
    assert found["status"] == "answered"
    assert found["next"].startswith("kitaru executions resume waits-1")
    assert service.get("/waits")["items"] == []
    client = KitaruClient(service.store)
    assert client.executions.resume("waits-1").wait(60) == "about cats"
    assert service.get("/executions/waits-1")["result"] == "about cats"


def test_a_process_that_waits_continues_after_an_answer(service: Running) -> None:
    from threading import Thread

    from . import flows

    handle = flows.review.options(store=service.store, exec_id="waits-1").run("cats")
    handle.settle(60)
    results: list[str] = []
    waiter = Thread(target=lambda: results.append(handle.wait(60)))
    waiter.start()
    good(service.post(ANSWER, {"value": True}))
    waiter.join(60)
    assert results == ["about cats"]


def test_who_answered_is_recorded(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(service.store, "two_questions", "waits-2")
    good(service.post("/executions/waits-2/waits/first-one/answer", {"value": 1}))
    refused = service.post("/executions/waits-2/waits/first-one/answer", {"value": 2})
    assert problem(refused, 409, "WaitConflict")["detail"].endswith(" by http.")
    (first,) = service.get("/executions/waits-2/answers")["items"]
    assert (first["name"], first["value"], first["by"]) == ("first-one", 1, "http")
    assert first["answered_at"] > "2026"
    monkeypatch.setenv("LOGNAME", "maria")
    client = KitaruClient(service.store)
    handle = client.executions.resume("waits-2")
    handle.settle(60)
    client.executions.input("waits-2", ["a"]).wait(60)
    answers = client.executions.get("waits-2").answers
    assert [(one.name, one.by) for one in answers] == [("first-one", "http"), ("second", "maria")]
    begin(service.store, "review", "waits-1", "cats")
    service.post("/executions/waits-1/cancel")
    assert client.executions.get("waits-1").cancelled_by == "http"


def test_the_first_answer_counts(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    good(service.post(ANSWER, {"value": True}))
    good(service.post(ANSWER, {"value": True}))
    problem(service.post(ANSWER, {"value": False}), 409, "WaitConflict")


@pytest.mark.parametrize("value", ["yes", None, 1, [True], {"value": True}])
def test_an_answer_that_does_not_fit_is_refused(service: Running, value: Any) -> None:
    begin(service.store, "review", "waits-1", "cats")
    found = problem(service.post(ANSWER, {"value": value}), 422, "AnswerInvalid")
    assert "boolean" in found["help"]
    assert service.get("/executions/waits-1")["status"] == "waiting"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"true", b"{}", b'{"value": true, "by": "me"}', b'{"value": NaN}',
        b'{"value": 1e999}', b'{"value": "\\ud800"}', b"\xff\xfe", b"[" * 100_000,
        b'{"value": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", b'{"value": ' + b"1" * 5_000 + b"}",
    ],
    ids=range(13),
)  # fmt: skip
def test_a_body_that_is_not_valid_changes_nothing(service: Running, body: bytes) -> None:
    begin(service.store, "review", "waits-1", "cats")
    response = service.http.post(
        f"/api/v1{ANSWER}", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert service.get("/executions/waits-1")["status"] == "waiting"


@pytest.mark.parametrize("name", ["", "..", "a/b", "ü", "%", "x" * 300])
def test_a_name_that_no_wait_can_have_is_not_found(service: Running, name: str) -> None:
    begin(service.store, "review", "waits-1", "cats")
    path = f"/executions/waits-1/waits/{quote(name, safe='')}/answer"
    assert service.post(path, {"value": True}).status_code in (400, 404)


def test_of_several_questions_each_is_answered_by_name(service: Running) -> None:
    begin(service.store, "two_questions", "waits-2")
    found = good(service.post("/executions/waits-2/waits/first-one/answer", {"value": 1}))
    assert (found["wait"], found["status"]) == ("first-one", "answered")


def test_what_is_not_there_is_not_found(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    absent = "/executions/absent/waits/ok/answer"
    problem(service.post(absent, {"value": True}), 404, "NotFound")
    absent = "/executions/waits-1/waits/gone/answer"
    found = problem(service.post(absent, {"value": True}), 404, "NotFound")
    assert found["help"] == "Pending waits: ok"


def test_a_wait_is_aborted(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    found = good(service.post("/executions/waits-1/waits/ok/abort"))
    assert (found["status"], found["wait"]) == ("cancelled", "ok")
    problem(service.post(ANSWER, {"value": True}), 409, "WaitConflict")
