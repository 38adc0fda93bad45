"""Events over HTTP, and what a page shows of an execution that waits for one."""

from __future__ import annotations

import sys
from typing import Any

import kitaru
from kitaru import KitaruClient, flow

from .conftest import Running, begin, good
from .test_mcp import ask, over_http
from .test_pages import page


@flow
def paying(order: int) -> Any:
    return kitaru.wait_event("invoice.paid", match={"order": order}, where="data.ok")


def test_an_event_over_http(service: Running) -> None:
    begin(service.store, "paying", "pays-1", 7, module=sys.modules[__name__])
    shown = service.get("/executions/pays-1")
    assert shown["status"] == "waiting"
    assert shown["events"] == [
        {"wait": "event", "event": "invoice.paid", "match": {"order": 7}, "where": "data.ok",
         "deadline": ""}
    ]  # fmt: skip
    html = page(service, "/executions/pays-1")
    assert "Waits for an event <code><bdi>invoice.paid</bdi></code>" in html
    assert "with <code><bdi>order</bdi> = <bdi>7</bdi></code>" in html
    sent = good(service.post("/events", {"name": "invoice.paid", "data": {"order": 7, "ok": True}}))
    again = {"name": "invoice.paid", "data": 1, "id": sent["id"]}
    assert good(service.post("/events", again))["data"] == {"order": 7, "ok": True}
    (answer,) = service.get("/executions/pays-1")["answers"]
    assert (answer["value"], answer["by"]) == ({"order": 7, "ok": True}, f"event {sent['id']}")
    handle = KitaruClient(service.store).executions.resume("pays-1")
    assert handle.wait() == {"order": 7, "ok": True}
    assert service.get(f"/events/invoice.paid/{sent['id']}")["by"] == "http"
    assert len(service.get("/events")["items"]) == 1

    async def use(session: Any) -> None:
        again = await ask(session, "send_event", name="invoice.paid", data=1, id=sent["id"])
        assert again["data"] == {"order": 7, "ok": True}
        await ask(session, "send_event", name="other", data=None)
        found = await ask(session, "list_events", name="invoice.paid")
        assert [one["id"] for one in found["items"]] == [sent["id"]]
        assert (await ask(session, "get_event", name="invoice.paid", id=sent["id"]))["number"] == 1
        assert (await ask(session, "list_triggers"))["items"] == []

    over_http(service, use)


def test_bad_events_are_refused(service: Running) -> None:
    assert service.http.get("/api/v1/events/a/gone").status_code == 404
    for body in ({"name": "a b"}, {"name": "a", "id": ""}, {"name": "a", "data": "x" * 300_000}):
        assert service.post("/events", body).status_code in (400, 413, 422)
    assert service.post("/events", {"data": 1}).status_code == 422
