"""Signals, tags, filters and live output over HTTP, MCP, the client of a service and pages."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.runtime.llm import providers
from kitaru.stores.base import Store
from tests.waiting import wait_until

from .conftest import API, Running, begin, good, problem
from .test_mcp import ask, over_http
from .test_pages import page, post

OPEN = threading.Event()


@flow
def steered(customer: str) -> list[Any]:
    kitaru.tag(customer=customer)
    kitaru.wait(name="ok")
    return kitaru.inbox("steer")


@checkpoint(cache=False)
def crawls() -> None:
    kitaru.progress(3, 10, "prices <b>")
    kitaru.emit({"page": "a"})
    kitaru.llm("x", model="vendor/m-1", stream=True)


@flow
def lives() -> None:
    crawls()


def steered_one(store: Store, exec_id: str, customer: str) -> None:
    begin(store, "steered", exec_id, customer, module=sys.modules[__name__])


def test_a_signal_over_every_way(service: Running) -> None:
    steered_one(service.store, "waits-1", "acme")
    path = "/executions/waits-1/inboxes/steer/signals"
    sent = good(service.post(path, {"value": {"n": 1}}))
    assert (sent["number"], sent["value"], sent["by"]) == (1, {"n": 1}, "http")
    remote = KitaruClient(service.url).executions
    assert remote.signal("waits-1", "steer", [2]).number == 2

    async def use(session: Any) -> None:
        found = await ask(session, "send_signal", exec_id="waits-1", inbox="steer", value="three")
        assert found["number"] == 3

    over_http(service, use)
    html = page(service, "/executions/waits-1")
    assert "not read yet" in html
    for text in ('{"n": 4}', "five <script>"):
        fields = {"act": "signal", "inbox": "steer", "value": text}
        assert post(service, "/executions/waits-1", fields).status_code == 303
    assert "five \\u003cscript\\u003e" in page(service, "/executions/waits-1")
    other = path.replace("steer", "no%20name")
    problem(service.post(other, {"value": 1}), 400, "UsageError")
    problem(service.post(path, {}), 422, "RequestInvalid")
    client = KitaruClient(service.store)
    client.executions.input("waits-1", True, "ok").settle(60)
    expected = [{"n": 1}, [2], "three", {"n": 4}, "five <script>"]
    document = service.get("/executions/waits-1")
    assert document["result"] == expected
    assert [one["read_by"] for one in document["signals"]] == ["inbox_steer"] * 5
    problem(service.post(path, {"value": 1}), 409, "StateError")
    assert "read by" in page(service, "/executions/waits-1")


def test_tags_and_the_filter(service: Running) -> None:
    for exec_id, customer in (("a-1", "acme"), ("b-1", "other"), ("c-1", "acme")):
        steered_one(service.store, exec_id, customer)

    def ids(*where: str) -> list[str]:
        return [one["exec_id"] for one in service.get("/executions", where=[*where])["items"]]

    assert ids("tag.customer=acme") == ["c-1", "a-1"] == ids("input.customer=acme")
    assert ids("tag.customer=acme", "status=failed") == [] == ids("older_than=1h")
    problem(service.http.get(f"{API}/executions?where=colour%3Dred"), 400, "UsageError")
    remote = KitaruClient(service.url).executions
    [found] = remote.page(where=["tag.customer=other"]).items
    assert (found.exec_id, found["tags"]) == ("b-1", {"customer": "other"})

    async def use(session: Any) -> None:
        found = await ask(session, "list_executions", where=["tag.customer=other"])
        assert [one["exec_id"] for one in found["items"]] == ["b-1"]

    over_http(service, use)
    html = page(service, "/executions?q=tag.customer:other")
    assert "/executions/b-1" in html and "/executions/a-1" not in html
    html = page(service, "/executions?where=tag.customer%3Dacme&where=status%3Dwaiting")
    assert "/executions/b-1" not in html and "/executions/a-1" in html
    assert "?where=tag.customer%3Dacme" in page(service, "/executions/a-1")


def test_progress_events_and_text_arrive_while_a_checkpoint_runs(
    service: Running, monkeypatch: Any
) -> None:
    go_on = threading.Event()

    def answering(request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        pieces.take("Once upon <i> ")
        assert go_on.wait(240)
        pieces.take("a time")
        return providers.Answer("Once upon <i> a time", 1, 1, 0.0)

    monkeypatch.setattr(providers, "_reach", answering)
    handle = lives.options(store=service.store, exec_id="lives-1").run()
    seen: list[tuple[str, str]] = []

    def follow() -> None:
        for line in KitaruClient(service.url).executions.logs("lives-1", follow=True):
            seen.append((line.stream, line.text))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        # The text arrives before the checkpoint is recorded.
        wait_until(lambda: ("model", "Once upon <i> ") in seen)
        wait_until(lambda: service.get("/executions/lives-1")["under_way"])
        document = service.get("/executions/lives-1")
        [progress] = document["progress"]
        assert (progress["id"], progress["done"], progress["total"]) == ("crawls", 3, 10)
        assert document["total"] == 0
        html = page(service, "/executions/lives-1")
        assert 'value="3"' in html and "prices &lt;b&gt;" in html
        assert "Once upon &lt;i&gt;" in html
        with service.http.stream("GET", f"{API}/executions/lives-1/events") as stream:
            lines = stream.iter_lines()
            first = next(line for line in lines if line.startswith("data: "))
        assert json.loads(first.removeprefix("data: "))["progress"] == [progress]
    finally:
        go_on.set()
    handle.wait(60)
    follower.join(240)
    assert not follower.is_alive()
    assert [text for stream, text in seen if stream == "event"] == ['{"page": "a"}']
    assert "".join(text for stream, text in seen if stream == "model") == "Once upon <i> a time"
    log = service.get("/executions/lives-1/logs")["items"]
    assert [one["stream"] for one in log if one["stream"] == "model"] == []
