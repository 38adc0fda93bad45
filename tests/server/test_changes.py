"""What the API changes: executions, deployed flows, tags and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.stores import open_store
from tests.waiting import wait_until

from .conftest import API, Running, begin, good, problem, serving

SOURCE = """
from kitaru import checkpoint, flow, wait

@checkpoint
def draft(topic: str) -> str:
    return f"about {topic}"

@checkpoint
def publish(text: str) -> str:
    if "bad" in text:
        raise ValueError(text)
    return f"published {text}"

@flow
def review(topic: str) -> str:
    text = draft(topic)
    if not wait(name="ok", question="Publish?", schema=bool):
        return "dropped"
    return publish(text)
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with a flow that is deployed for the target `local`."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "review.py").write_text(SOURCE)
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    KitaruClient(store).deployments.deploy(str(folder / "review.py"), "local", tag="stable")
    with serving(store) as service:
        yield service


def settled(service: Running, exec_id: str, *statuses: str) -> dict[str, Any]:
    """Wait for a status of an execution, and return the execution."""
    found: dict[str, Any] = {}

    def is_settled() -> bool:
        response = service.http.get(f"{API}/executions/{exec_id}")
        found.clear()
        found.update(response.json())
        return found.get("status") in statuses

    wait_until(is_settled)
    return found


def test_a_flow_is_invoked_answered_and_replayed(deployed: Running) -> None:
    body = {"inputs": {"topic": "owls"}, "tag": "stable"}
    begun = deployed.post("/flows/review/invoke", body)
    assert begun.status_code == 201
    exec_id = begun.json()["exec_id"]
    assert begun.json()["submission"]["target"] == "local"
    settled(deployed, exec_id, "waiting")
    done = good(deployed.post(f"/executions/{exec_id}/waits/ok/answer", {"value": True}))
    assert done["submission"] is not None
    assert settled(deployed, exec_id, "completed")["result"] == "published about owls"
    changed = {"start": "publish", "results": {"draft": "bad news"}}
    replayed = good(deployed.post(f"/executions/{exec_id}/replay", changed))
    failed = settled(deployed, replayed["exec_id"], "failed")
    assert failed["replay"]["source"] == exec_id
    assert failed["error"]["invocation"] == "publish"
    good(deployed.post(f"/executions/{replayed['exec_id']}/retry"))
    settled(deployed, replayed["exec_id"], "failed")
    refused = deployed.post(f"/executions/{exec_id}/retry")
    problem(refused, 409, "StateError")

    # The same for all that a filter selects.
    body = {"where": ["flow=review", "status=completed"], "changes": changed}
    preview = good(deployed.post("/many/replay", body))
    assert [one["exec_id"] for one in preview["items"]] == [exec_id]
    [one] = good(deployed.post("/many/replay", {**body, "confirm": preview["confirm"]}))["done"]
    assert (one["exec_id"], one["error"]) == (exec_id, "")
    settled(deployed, one["replay"], "failed")
    remote = KitaruClient(deployed.url).executions
    ended = {one.exec_id: one.status for one in remote.retry_many(["flow=review"])}
    assert ended.keys() >= {one["replay"], replayed["exec_id"]}
    for failed_id in ended:
        settled(deployed, failed_id, "failed")
    [again] = remote.replay_many(flow="review", status="completed", reuse_unchanged=True)
    assert (again.source, again.error, again.is_same) == (exec_id, "", True)


def test_a_key_starts_one_execution(deployed: Running) -> None:
    body = {"inputs": {"topic": "cats"}, "tag": "stable"}
    headers = {"idempotency-key": "order 7"}
    begun = [deployed.post("/flows/review/invoke", body, headers=headers) for _ in range(2)]
    ids = {good(one)["exec_id"] for one in begun}
    assert len(ids) == 1
    (exec_id,) = ids
    settled(deployed, exec_id, "waiting")
    other = {"inputs": {"topic": "dogs"}, "tag": "stable"}
    problem(deployed.post("/flows/review/invoke", other, headers=headers), 409, "StateError")
    good(deployed.post(f"/executions/{exec_id}/cancel"))
    assert settled(deployed, exec_id, "cancelled")


def test_invocations_that_are_not_valid_start_nothing(deployed: Running) -> None:
    before = deployed.get("/executions")["items"]
    for body, status, code in (
        ({"inputs": {}}, 422, "InputError"),
        ({"inputs": {"topic": 1}}, 422, "InputError"),
        ({"inputs": {"topic": "a", "more": 1}}, 422, "InputError"),
        ({"inputs": {"topic": "a"}, "tag": "gone"}, 404, "NotFound"),
        ({"inputs": {"topic": "a"}, "version": "v9"}, 404, "NotFound"),
        ({"inputs": {"topic": "a"}, "version": "new"}, 400, "UsageError"),
        ({"inputs": {"topic": "a"}, "tag": "stable", "version": "v1"}, 400, "UsageError"),
        ({"topic": "a"}, 422, "RequestInvalid"),
    ):
        problem(deployed.post("/flows/review/invoke", body), status, code)
    problem(deployed.post("/flows/gone/invoke", {"inputs": {}}), 404, "NotFound")
    assert deployed.get("/executions")["items"] == before


def test_flows_and_tags(deployed: Running) -> None:
    (only,) = deployed.get("/flows")["items"]
    assert (only["flow"], only["newest"]) == ("review", "v1")
    assert only["tags"] == {"default": "v1", "stable": "v1"}
    (version,) = deployed.get("/flows/review")["items"]
    assert version == deployed.get("/flows/review/versions/stable")
    put = deployed.http.put(f"{API}/flows/review/tags/canary", json={"version": "v1"})
    assert "canary" in good(put)["tags"]
    assert deployed.http.delete(f"{API}/flows/review/tags/canary").status_code == 204
    problem(deployed.http.delete(f"{API}/flows/review/tags/canary"), 404, "NotFound")
    problem(deployed.http.delete(f"{API}/flows/review/tags/default"), 400, "UsageError")
    missing = deployed.http.put(f"{API}/flows/review/tags/v1", json={"version": "v1"})
    problem(missing, 400, "UsageError")
    problem(deployed.http.get(f"{API}/flows/gone"), 404, "NotFound")
    problem(deployed.http.get(f"{API}/flows/a%20b"), 400, "UsageError")


@pytest.mark.parametrize("verb", ["resume", "retry", "replay"])
def test_the_code_of_local_executions_is_never_run(service: Running, verb: str) -> None:
    begin(service.store, "failing", "failed-1", "owls")
    found = problem(service.post(f"/executions/failed-1/{verb}", {}), 409, "StateError")
    assert f"kitaru executions {verb} failed-1" in found["help"]


def test_many_executions_are_cancelled_after_a_preview(service: Running) -> None:
    for number in range(3):
        begin(service.store, "review", f"waits-{number}", "cats")
    begin(service.store, "plain", "done", "cats")
    body: dict[str, Any] = {"where": ["flow=review", "input.topic=cats"]}
    preview = good(service.post("/many/cancel", body))
    ids = [one["exec_id"] for one in preview["items"]]
    assert sorted(ids) == ["waits-0", "waits-1", "waits-2"]
    assert (preview["count"], preview["done"], preview["has_more"]) == (3, [], False)
    assert preview["confirm"].startswith("3-")
    # One more, and the confirmation is not for it.
    begin(service.store, "review", "waits-3", "cats")
    confirmed = {**body, "confirm": preview["confirm"]}
    for wrong in (confirmed, {**body, "confirm": "4"}):
        problem(service.post("/many/cancel", wrong), 409, "StateError")
    assert service.get("/executions/waits-0")["status"] == "waiting"
    few = good(service.post("/many/cancel", {**body, "limit": 1}))
    assert ([one["exec_id"] for one in few["items"]], few["has_more"]) == (["waits-3"], True)
    # That of a cancellation confirms no replay.
    for verb, status, code in (("replay", 409, "StateError"), ("retry", 409, "StateError")):
        problem(service.post(f"/many/{verb}", {**body, "confirm": few["confirm"]}), status, code)
    preview = good(service.post("/many/cancel", body))
    done = good(service.post("/many/cancel", {**body, "confirm": preview["confirm"]}))["done"]
    assert [(one["status"], one["error"]) for one in done] == [("cancelled", "")] * 4
    assert good(service.post("/many/cancel", body))["items"] == []
    assert {one["exec_id"] for one in service.get("/audit")["items"]} == {*ids, "waits-3"}
    for wrong, status, code in (
        ({"where": []}, 422, "RequestInvalid"),
        ({}, 422, "RequestInvalid"),
        ({"where": ["flow"]}, 400, "UsageError"),
        ({**body, "limit": 0}, 422, "RequestInvalid"),
        ({**body, "yes": True}, 422, "RequestInvalid"),
    ):
        problem(service.post("/many/cancel", wrong), status, code)


def test_the_code_of_many_local_executions_is_never_run(service: Running) -> None:
    begin(service.store, "failing", "failed-1", "owls")
    for verb in ("retry", "replay"):
        body = {"where": ["status=failed"]}
        body["confirm"] = good(service.post(f"/many/{verb}", body))["confirm"]
        [done] = good(service.post(f"/many/{verb}", body))["done"]
        assert "not one of a deployed flow" in done["error"] and not done["replay"]


def test_executions_are_cancelled(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    begin(service.store, "plain", "done-1", "owls")
    for _ in range(2):
        assert good(service.post("/executions/waits-1/cancel"))["status"] == "cancelled"
    problem(service.post("/executions/done-1/cancel"), 409, "StateError")
    problem(service.post("/executions/absent/cancel"), 404, "NotFound")


def test_memory_is_read_and_written(service: Running) -> None:
    keys = f"{API}/memory/namespace:sales/keys"
    http = service.http
    assert good(http.put(f"{keys}/user/42", json={"value": {"a": [1]}})) == {
        "key": "user/42", "version": 1
    }  # fmt: skip
    body = {"value": "two", "expect": 1}
    good(http.put(f"{keys}/user/42", json=body))
    problem(http.put(f"{keys}/user/42", json=body), 409, "MemoryConflict")
    assert service.get("/memory/namespace:sales/keys/user/42")["value"] == "two"
    first = service.get("/memory/namespace:sales/keys/user/42", version=1)
    assert first["value"] == {"a": [1]}
    then = service.get("/memory/namespace:sales/keys/user/42", at=first["written_at"])
    assert then == first
    history = service.get("/memory/namespace:sales/history/user/42")["items"]
    assert [one["version"] for one in history] == [1, 2]
    assert service.get("/memory/namespace:sales/keys", prefix="user/")["items"] == ["user/42"]
    assert service.get("/memory")["items"][0]["scope"] == "namespace:sales"
    assert good(http.delete(f"{keys}/user/42"))["version"] == 3
    assert good(http.delete(f"{keys}/user/42"))["version"] is None
    problem(http.get(f"{keys}/user/42"), 404, "NotFound")
    problem(http.get(f"{keys}/../42"), 404, "NotFound")
    problem(http.get(f"{API}/memory/planet:x/keys"), 400, "UsageError")
    both = {"version": 1, "at": "2026-11-24T09:00:00Z"}
    problem(http.get(f"{keys}/user/42", params=both), 400, "UsageError")


def test_usage_is_reported(service: Running) -> None:
    begin(service.store, "asking", "asked-1")
    found = service.get("/usage", days=1, by="flow")
    assert [one["name"] for one in found["items"]] == ["asking"]
    assert found["total"]["calls"] == 1
    calls = service.get("/executions/asked-1/calls")["items"]
    assert calls[0]["prompt"] is not None
    assert service.get("/usage", flow="other")["items"] == []
    problem(service.http.get(f"{API}/usage", params={"by": "planet"}), 422, "RequestInvalid")
