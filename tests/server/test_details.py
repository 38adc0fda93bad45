"""Calls, logs, artifacts, lineage, comparisons and events of an execution."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.server import feeds, previews
from tests.waiting import wait_until

from . import flows
from .conftest import API, Running, begin, good, httpx, problem, serving


def test_artifacts_are_listed_read_and_downloaded(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    found = service.get("/executions/done-1/artifacts")
    assert [(one["name"], one["type"]) for one in found["items"]] == [("draft", "str")]
    value = service.get("/executions/done-1/artifacts/draft")
    assert (value["value"], value["is_complete"]) == ("about owls", True)
    file = service.http.get(f"{API}/executions/done-1/downloads/draft")
    assert file.json() == "about owls"
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["content-security-policy"].startswith("sandbox")
    for path in ("artifacts/absent", "downloads/absent", "artifacts/../draft", "artifacts/a/b"):
        problem(service.http.get(f"{API}/executions/done-1/{path}"), 404, "NotFound")


def test_large_values_are_previewed(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(service.store, "large", "large-1")
    path = "/executions/large-1/artifacts/many"
    shown = service.get(path)
    assert not shown["is_complete"]
    assert len(shown["value"]["list"]) < 5_000
    assert len(shown["value"]["text"]) == previews.MOST_TEXT + 1
    whole = service.http.get(f"{API}/executions/large-1/downloads/many").json()
    assert len(whole["list"]) == 5_000
    monkeypatch.setattr(previews, "MOST_BYTES", 1_000)
    assert service.get(path)["value"] is None


def test_logs_are_paged_in_order(service: Running) -> None:
    begin(service.store, "talking", "talks-1")
    wait_until(lambda: len(service.get("/executions/talks-1/logs")["items"]) == 5)
    first = service.get("/executions/talks-1/logs", limit=3)
    assert [line["text"] for line in first["items"]] == ["line 0", "line 1", "line 2"]
    rest = service.get("/executions/talks-1/logs", limit=3, skip=first["next_skip"])
    assert [line["text"] for line in rest["items"]] == ["line 3", "line 4"]
    assert rest["next_skip"] is None
    assert service.get("/executions/talks-1/logs", invocation="gone")["items"] == []


def test_lineage_calls_and_differences(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    begin(service.store, "plain", "done-2", "cats")
    assert service.get("/executions/done-1/lineage")["parents"] == {"draft": []}
    assert service.get("/executions/done-1/calls") == {"items": [], "next_skip": None}
    found = service.get("/executions/done-1/diff/done-2")
    expected = KitaruClient(service.store).executions.diff("done-1", "done-2", limit=100)
    assert found == json.loads(json.dumps(expected.to_dict()))
    assert not found["same"]
    problem(service.http.get(f"{API}/executions/done-1/diff/absent"), 404, "NotFound")


def events(service: Running, path: str, seen: list[Any]) -> None:
    """Append the events of a stream until it ends."""
    # Not the client of the service, which is closed before the service stops.
    with httpx.stream("GET", service.url + API + path, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            field, _, text = line.partition(": ")
            if field == "event":
                name = text
            elif field == "data":
                seen.append((name, json.loads(text)))


def test_an_execution_is_followed_until_it_ends(service: Running) -> None:
    handle = flows.review.options(store=service.store, exec_id="waits-1").run("cats")
    handle.settle(60)
    followed: list[Any] = []
    read: list[Any] = []
    readers = [
        threading.Thread(target=events, args=(service, "/executions/waits-1/events", followed)),
        threading.Thread(target=events, args=(service, "/executions/waits-1/logs/follow", read)),
    ]
    for reader in readers:
        reader.start()
    wait_until(lambda: followed)
    good(service.post("/executions/waits-1/waits/ok/answer", {"value": True}))
    assert handle.wait(60) == "about cats"
    for reader in readers:
        reader.join(60)
    states = [document for name, document in followed if name == "execution"]
    assert (states[0]["status"], states[0]["waits"]) == ("waiting", ["ok"])
    assert states[-1]["status"] == "completed"
    assert ("ok", "wait") in {(d["id"], d["kind"]) for n, d in followed if n == "invocation"}
    assert followed[-1][0] == read[-1][0] == "end"
    assert [line["text"] for name, lines in read if name == "lines" for line in lines] == [
        "drafting", "published"
    ]  # fmt: skip


def test_readers_share_one_source(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(service.store, "review", "waits-1", "cats")
    made: list[feeds.Progress] = []

    class Counted(feeds.Progress):
        def __init__(self, *args: Any) -> None:
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr("kitaru.server.executions.Progress", Counted)
    seen: list[list[Any]] = [[] for _ in range(5)]
    path = "/executions/waits-1/events"
    readers = [threading.Thread(target=events, args=(service, path, each)) for each in seen]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(seen))
    KitaruClient(service.store).executions.cancel("waits-1")
    for reader in readers:
        reader.join(60)
    assert len(made) == 1
    assert {each[-1][1]["status"] for each in ([e[:-1] for e in seen])} == {"cancelled"}


def test_a_stream_ends_when_the_service_stops(store: Any) -> None:
    begin(store, "review", "waits-1", "cats")
    seen: list[Any] = []
    with serving(store, grace=60) as service:
        path = "/executions/waits-1/events"
        reader = threading.Thread(target=events, args=(service, path, seen))
        reader.start()
        wait_until(lambda: seen)
    reader.join(60)
    assert not reader.is_alive()


def test_a_reader_that_is_too_slow_is_told(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(store, "review", "waits-1", "cats")
    source = feeds.Progress(store, "waits-1")
    source.poll()
    read = source.reader()
    assert [text.partition("\n")[0] for text in read()] == ["event: execution"]
    for number in range(feeds._KEPT + 1):
        source._add(feeds.event("invocation", {"number": number}))
    assert [text.partition("\n")[0] for text in read()] == ["event: reset"]
    source._add(feeds.event("invocation", {"number": -1}))
    assert list(read()) == [feeds.event("invocation", {"number": -1})]


def test_what_is_not_there_has_no_stream(service: Running) -> None:
    for path in ("events", "logs/follow", "logs", "calls", "artifacts", "lineage"):
        problem(service.http.get(f"{API}/executions/absent/{path}"), 404, "NotFound")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feeds, "PAUSE", 0.02)
    yield
