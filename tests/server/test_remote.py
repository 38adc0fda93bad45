"""`KitaruClient("http://…")`: one suite over a store and over a service of that store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.client import DeployedFlows, Events, Executions, Schedules, Tokens
from kitaru.compat.client import Artifacts
from kitaru.errors import (
    AnswerInvalid,
    CheckpointFailed,
    InputError,
    MemoryConflict,
    NotFound,
    StateError,
    StoreDenied,
    StoreUnavailable,
    UsageError,
    WaitConflict,
    WaitTimeout,
)
from kitaru.memory import Memories
from kitaru.remote import client as remote
from kitaru.stores.base import Store
from tests.waiting import wait_until

from .conftest import begin, serving
from .test_changes import SOURCE

PAIRS: list[tuple[type, type]] = [
    (Executions, remote.RemoteExecutions),
    (DeployedFlows, remote.RemoteDeployments),
    (Schedules, remote.RemoteSchedules),
    (Events, remote.RemoteEvents),
    (Memories, remote.RemoteMemories),
    (Artifacts, remote.RemoteArtifacts),
    (Tokens, remote.RemoteTokens),
]
# What needs the store itself, or runs code here.
NOT_OFFERED = {
    "Executions": {
        "collect", "export", "import_execution", "dry_run", "write_residual",
    },
    "DeployedFlows": {"read", "add", "deploy", "dry_run"},
    "Schedules": set(),
    "Events": set(),
    "Memories": {"configure", "compact", "purge", "store"},
    "Artifacts": set(),
    "Tokens": set(),
}  # fmt: skip


@pytest.fixture(params=["store", "service"])
def client(request: pytest.FixtureRequest, store: Store) -> Iterator[KitaruClient]:
    if request.param == "store":
        yield KitaruClient(store)
        return
    with serving(store, token="t-1") as service:
        yield KitaruClient(service.url, token="t-1")


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    # The order of parameters by name does not matter.
    place = inspect.Parameter.KEYWORD_ONLY
    named = sorted((one for one in found if one.kind == place), key=lambda one: one.name)
    others = [one for one in found if one.kind != place]
    return [(one.name, one.kind, one.default) for one in (*others, *named)]


@pytest.mark.parametrize(("local", "other"), PAIRS)
def test_the_methods_are_the_same(local: type, other: type) -> None:
    public = {name for name in dir(local) if not name.startswith("_")}
    offered = {name for name in vars(other) if not name.startswith("_")}
    assert offered == public - NOT_OFFERED[local.__name__]
    for name in offered:
        assert parameters(getattr(local, name)) == parameters(getattr(other, name)), name


def test_executions_are_listed(client: KitaruClient, store: Store) -> None:
    begin(store, "plain", "done-1", "owls")
    begin(store, "review", "waits-1", "cats")
    begin(store, "failing", "failed-1", "dogs")
    executions = client.executions
    assert [one.exec_id for one in executions.list()] == ["failed-1", "waits-1", "done-1"]
    assert [one.exec_id for one in executions.list(flow="plain", limit=1)] == ["done-1"]
    assert [one["exec_id"] for one in executions.each(status="waiting")] == ["waits-1"]
    assert executions.latest(status="failed").exec_id == "failed-1"
    assert executions.statistics()["completed"] == 1
    page = executions.page(limit=2)
    assert (page.next, page.looked_at) == ("waits-1", 2)
    assert [one.exec_id for one in executions.page(limit=2, page=2).items] == ["done-1"]
    assert executions.page(limit=2, after="waits-1").next is None
    with pytest.raises(NotFound):
        executions.latest(flow="gone")
    (middle,) = executions.list(flow="review")
    moment = datetime.fromisoformat(middle.started_at)
    after = executions.page(since=moment)
    assert [one.exec_id for one in after.items] == ["failed-1", "waits-1"]
    before = executions.page(until=moment, limit=1)
    assert ([one.exec_id for one in before.items], before.next) == (["waits-1"], "waits-1")
    older = executions.page(until=moment, after="waits-1")
    assert [one.exec_id for one in older.items] == ["done-1"]
    assert executions.page(since=moment, until=moment, counts=False).total is None
    assert executions.page(until=datetime(1900, 1, 1)).items == []
    assert executions.page(since=datetime(9999, 1, 1)).items == []


def test_events(client: KitaruClient) -> None:
    sent = client.events.send("invoice.paid", {"order": 7}, id="a/b c")
    assert client.events.send("invoice.paid", {"order": 8}, id="a/b c") == sent
    assert client.events.get("invoice.paid", "a/b c") == client.events.list("invoice.paid")[0]
    assert client.events.send("other").data is None
    assert len(client.events.list(limit=1)) == 1
    with pytest.raises(NotFound):
        client.events.get("other", "gone")
    with pytest.raises(UsageError):
        client.events.send("a b")
    with pytest.raises(UsageError):
        client.events.send("a", {1: 2})


def test_schedules(client: KitaruClient, store: Store, tmp_path: Path) -> None:
    (tmp_path / "review.py").write_text(SOURCE)
    KitaruClient(store).deployments.deploy(str(tmp_path / "review.py"), "local")
    schedules, topic = client.schedules, {"topic": "tea"}
    made = schedules.create("review", "0 2 * * *", timezone="Asia/Tokyo", inputs=topic)
    assert (made.id, made.name, made.next[0][11:16]) == ("review", "review@default", "17:00")
    assert schedules.get("review").to_dict() == made.to_dict()
    assert [one.id for one in schedules.list(flow="review")] == ["review"]
    assert schedules.list(flow="other") == []
    assert schedules.next("review", 2)[0] == made.next[0]
    assert schedules.pause("review").next == ()
    exec_id = schedules.trigger("review")
    (run,) = schedules.get("review").runs
    assert (run.exec_id, run.deployment, run.kind) == (exec_id, 1, "trigger")
    assert schedules.resume("review").entry.status == "active"
    schedules.delete("review")
    with pytest.raises(NotFound):
        schedules.get("review")
    with pytest.raises(UsageError, match="five fields"):
        schedules.create("review", "@daily", inputs=topic)
    with pytest.raises(InputError):
        schedules.create("review", "0 2 * * *")
    # The newest first.
    found = client.audit(flow="review", within=100).items
    done = [one.action for one in found if one.action.endswith("schedule")]
    assert done == [
        "delete schedule", "resume schedule", "trigger schedule", "pause schedule",
        "create schedule",
    ]  # fmt: skip
    assert all(one.subject == "review" and one.by for one in found if one.action in done)


def test_an_execution_is_shown(client: KitaruClient, store: Store) -> None:
    begin(store, "failing", "failed-1", "owls")
    view = client.executions.get("fail")
    assert (view.exec_id, view.flow_name, view.status) == ("failed-1", "failing", "failed")
    assert view.status.is_finished
    assert view.inputs == {"topic": "owls"} and view.result is None and view.replay is None
    assert view.error is not None and view.error.invocation == "broken"
    assert view.to_dict() == KitaruClient(store).executions.get("failed-1").to_dict()
    assert (view.calls, view.notes, view.waits, view.pending_wait) == ([], {}, (), None)
    with pytest.raises(NotFound) as caught:
        client.executions.get("absent")
    assert "kitaru executions list" in caught.value.help
    with pytest.raises(UsageError):
        client.executions.get("a b")


def test_waits_are_answered(client: KitaruClient, store: Store) -> None:
    begin(store, "review", "waits-1", "cats")
    (request,) = client.executions.pending_waits("waits-1")
    assert (request.name, request.schema, request.metadata) == (
        "ok", {"type": "boolean"}, {"topic": "cats"}
    )  # fmt: skip
    assert request.asked_at > "2026"
    with pytest.raises(AnswerInvalid):
        client.executions.input("waits-1", "yes")
    with pytest.raises(NotFound):
        client.executions.input("waits-1", True, wait="gone")
    client.executions.input("waits-1", True)
    client.executions.input("waits-1", True)
    with pytest.raises(WaitConflict):
        client.executions.input("waits-1", False)
    (answer,) = client.executions.get("waits-1").answers
    assert (answer.name, answer.value, answer.number) == ("ok", True, 1)
    assert answer.by


def test_of_several_waits_one_is_named(client: KitaruClient, store: Store) -> None:
    begin(store, "review", "waits-1", "cats")
    assert client.executions.abort("waits-1").status == "cancelled"
    begin(store, "review", "waits-2", "cats")
    assert client.executions.cancel("waits-2").status == "cancelled"
    begin(store, "plain", "done-1", "cats")
    with pytest.raises(StateError):
        client.executions.cancel("done-1")
    begin(store, "review", "waits-3", "cats")
    [done] = client.executions.cancel_many(["flow=review", "input.topic=cats"], limit=5)
    assert (done.exec_id, done.status, done.error) == ("waits-3", "cancelled", "")
    with pytest.raises(UsageError):
        client.executions.cancel_many(["owner=me"])


def test_details_are_read(client: KitaruClient, store: Store) -> None:
    begin(store, "talking", "talks-1")
    wait_until(lambda: len(list(client.executions.logs("talks-1"))) == 5)
    texts = [line.text for line in client.executions.logs("talks-1", "", limit=2)]
    assert texts == ["line 0", "line 1"]
    assert [line.text for line in client.executions.logs("talks-1", follow=True)][-1] == "line 4"
    assert list(client.executions.logs("talks-1", "gone")) == []
    begin(store, "plain", "done-1", "owls")
    begin(store, "plain", "done-2", "cats")
    assert client.executions.lineage("done-1") == {"draft": ()}
    found = client.executions.diff("done-1", "done-2")
    assert found == KitaruClient(store).executions.diff("done-1", "done-2")
    (artifact,) = client.artifacts.list("done-1", kind="result")
    assert (artifact.name, artifact.load()) == ("draft", "about owls")
    assert client.artifacts.get(artifact.id).load() == "about owls"
    with pytest.raises(NotFound):
        client.artifacts.get("done-1/gone/")


def test_model_calls_and_usage(client: KitaruClient, store: Store) -> None:
    begin(store, "asking", "asked-1")
    (call,) = client.executions.calls("asked-1")
    assert call["prompt"] is not None
    assert client.executions.get("asked-1").calls == [call]
    assert client.executions.calls("asked-1", skip=1) == []
    groups, total = client.model_usage(timedelta(days=1), by="flow")
    assert ([one.name for one in groups], total.calls) == (["asking"], 1)


def test_memory(client: KitaruClient) -> None:
    memory, scope = client.memory, "namespace:sales"
    assert memory.get("user/42", "none", scope=scope) == "none"
    assert memory.set("user/42", {"a": [1]}, scope=scope) == 1
    assert memory.set("user/42", "two", expect=1, scope=scope) == 2
    with pytest.raises(MemoryConflict) as caught:
        memory.set("user/42", "three", expect=1, scope=scope)
    assert caught.value.version == 2
    assert memory.get("user/42", scope=scope) == "two"
    assert memory.get("user/42", version=1, scope=scope) == {"a": [1]}
    entry = memory.entry("user/42", scope=scope)
    assert entry is not None and entry.version == 2
    assert memory.list("user/", scope=scope) == ["user/42"]
    assert [one.version for one in memory.history("user/42", scope=scope)] == [1, 2]
    assert memory.show("user/42", at=datetime(2020, 1, 1), scope=scope) is None
    assert [one["scope"] for one in memory.scopes()] == [scope]
    found = client.memories.get("user/42", scope="sales", scope_type="namespace")
    assert found is not None and found.version == 2
    assert memory.delete("user/42", scope=scope) and not memory.delete("user/42", scope=scope)
    with pytest.raises(NotFound):
        memory.get("user/42", strict=True, scope=scope)
    with pytest.raises(UsageError):
        memory.get("é", scope=scope)
    with pytest.raises(UsageError):
        memory.get("key", scope="planet:x")


def test_deployed_flows(client: KitaruClient, store: Store, tmp_path: Path) -> None:
    (tmp_path / "review.py").write_text(SOURCE)
    KitaruClient(store).deployments.deploy(str(tmp_path / "review.py"), "local")
    deployments = client.deployments
    assert deployments.flows() == ["review"]
    assert [one.version for one in deployments.list("review")] == ["v1"]
    assert deployments.list("gone") == []
    assert deployments.tag("review@v1", "stable").tags == ("default", "stable")
    assert deployments.tags("review") == {"default": 1, "stable": 1}
    assert deployments.get("review@stable").digest == deployments.get("review").digest
    deployments.untag("review", "stable")
    with pytest.raises(NotFound):
        deployments.get("review@stable")
    with pytest.raises(InputError):
        deployments.invoke("review", {})
    with pytest.raises(UsageError):
        deployments.invoke("review@v1", {"topic": "bad"}, tag="default")
    handle = deployments.invoke("review@v1", {"topic": "bad"})
    assert handle.settle(240) == "waiting"
    with pytest.raises(WaitTimeout):
        handle.wait(0)
    assert client.executions.input(handle.exec_id, True).settle(240) == "failed"
    with pytest.raises(CheckpointFailed, match="failed in the checkpoint publish"):
        handle.get()
    replay = client.executions.replay(handle.exec_id, start="publish", results={"draft": "owls"})
    assert replay.wait(240) == "published owls"
    assert replay.source_exec_id == handle.exec_id
    assert client.executions.get(replay.replay_exec_id).replay is not None
    assert client.executions.retry(handle.exec_id).settle(240) == "failed"
    with pytest.raises(StateError):
        client.executions.retry(replay.exec_id)


def test_what_needs_the_store_is_not_offered(store: Store) -> None:
    begin(store, "plain", "done-1", "owls")
    with serving(store) as service:
        client = KitaruClient(service.url)
        for place, cls in zip(
            (client.executions, client.deployments, client.memory), NOT_OFFERED, strict=False
        ):
            for name in NOT_OFFERED[cls] - {"store"}:
                with pytest.raises(UsageError, match="not offered over HTTP"):
                    getattr(place, name)
        with pytest.raises(UsageError, match="not offered over HTTP"):
            client.verify_store()
        with pytest.raises(UsageError, match="has no 'invocations'"):
            _ = client.executions.get("done-1").invocations


def test_services_that_do_not_answer_are_errors(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        KitaruClient("http://127.0.0.1:9").executions.list()
    with serving(store, token="right") as service:
        with pytest.raises(StoreDenied, match="token"):
            KitaruClient(service.url, token="wrong").executions.list()
        with pytest.raises(StoreDenied):
            KitaruClient(service.url).executions.list()
        with pytest.raises(NotFound):
            KitaruClient(f"{service.url}/elsewhere", token="right").executions.list()
    with pytest.raises(UsageError, match="without encryption"):
        KitaruClient("http://kitaru.example.com", token="t")
    with pytest.raises(UsageError, match="Only a service"):
        KitaruClient(store, token="t")


def test_the_token_comes_from_the_environment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_TOKEN", "t-1")
    with serving(store, token="t-1") as service:
        assert KitaruClient(service.url).executions.list() == []


def test_tokens_are_created_listed_and_revoked(client: KitaruClient) -> None:
    made = client.tokens.create("ci", "operator", flows=["rev*"], expires=timedelta(days=1))
    assert made.secret.startswith(f"kit_{made.token.id}_") and made.token.expires_at
    assert [(one.name, str(one.grants[0]), one.state) for one in client.tokens.list()] == [
        ("ci", "operator of rev*", "valid")
    ]
    assert client.tokens.list(sessions=True) == client.tokens.list() == [made.token]
    ended = client.tokens.revoke("ci")
    assert (ended.state, client.tokens.list()) == ("revoked", [ended])
    with pytest.raises(NotFound):
        client.tokens.revoke("another")
    with pytest.raises(UsageError, match="is not a role"):
        client.tokens.create("ci", "root")


def test_the_audit_log_is_listed_in_pages(client: KitaruClient, store: Store) -> None:
    for number in range(4):
        begin(store, "review", f"waits-{number}", "cats")
    for number in range(3):
        client.executions.input(f"waits-{number}", True)
    # The answered ones may complete at any moment.
    client.executions.cancel("waits-3")
    found = client.audit()
    assert [(one.action, one.exec_id, one.flow) for one in found.items] == [
        ("cancel", "waits-3", "review"),
        *(("answer", f"waits-{number}", "review") for number in (2, 1, 0)),
    ]
    assert found.next is None and all(one.by for one in found.items)
    first = client.audit(limit=3)
    assert first.items == found.items[:3] and first.next is not None
    assert client.audit(limit=3, after=first.next).items == found.items[3:]
    assert client.audit(action="cancel").items == found.items[:1]
    assert client.audit(exec_id="waits-0").items == found.items[3:]
    assert client.audit(flow="another").items == client.audit(by="nobody else").items == []
    moment = datetime.fromisoformat(found.items[1].at)
    assert client.audit(since=moment).items == found.items[:2]
    assert client.audit(until=moment).items == found.items[1:]
    assert client.audit(within=1, action="answer").items == []
    for cursor in ("x", "../x", "a/b/c", "é/x"):
        with pytest.raises(UsageError, match="not a cursor"):
            client.audit(after=cursor)


def test_changes_of_memory_are_in_the_audit_log(client: KitaruClient, store: Store) -> None:
    begin(store, "review", "waits-1", "cats")
    memory, scope = client.memory, "namespace:sales"
    memory.set("tone", "formal", scope=scope)
    memory.set("tone", "kind", scope="flow:review")
    with pytest.raises(MemoryConflict):
        memory.set("tone", "rude", scope=scope, expect=7)
    memory.get("tone", scope=scope)
    memory.delete("tone", scope=scope)
    found = [(one.action, one.subject, one.flow, one.error) for one in client.audit().items]
    assert found == [
        ("delete memory", "tone in namespace:sales", "", ""),
        ("set memory", "tone in namespace:sales", "", "MemoryConflict"),
        ("set memory", "tone in flow:review", "review", ""),
        ("set memory", "tone in namespace:sales", "", ""),
    ]
