"""The API lists and shows executions as the command line does."""

from __future__ import annotations

import json

import pytest

from kitaru import KitaruClient

from .conftest import API, Running, begin, good, problem


def test_executions_are_listed_newest_first_in_pages(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    begin(service.store, "review", "waits-1", "cats")
    begin(service.store, "failing", "failed-1", "dogs")
    first = service.get("/executions", limit=2)
    assert [one["exec_id"] for one in first["items"]] == ["failed-1", "waits-1"]
    assert [one["status"] for one in first["items"]] == ["failed", "waiting"]
    second = service.get("/executions", limit=2, cursor=first["next_cursor"])
    assert [one["exec_id"] for one in second["items"]] == ["done-1"]
    assert second["next_cursor"] is None


def test_executions_are_filtered(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    begin(service.store, "review", "waits-1", "cats")
    of_flow = service.get("/executions", flow="plain")["items"]
    assert [one["exec_id"] for one in of_flow] == ["done-1"]
    waiting = service.get("/executions", status="waiting")["items"]
    assert [one["exec_id"] for one in waiting] == ["waits-1"]
    searched = service.get("/executions", flow="plain", within=1)
    assert (searched["items"], searched["looked_at"]) == ([], 1)


@pytest.mark.parametrize("early", ["0001-01-01T00:00:00%2B14:00", "0001-01-01T00:00:00", "1960"])
def test_every_moment_is_a_filter(service: Running, early: str) -> None:
    begin(service.store, "plain", "done-1", "owls")
    begin(service.store, "review", "waits-1", "cats")
    late = "9999-12-31T23:59:59-14:00"
    period = f"{API}/executions?since={early}&until={late}"
    assert len(good(service.http.get(period))["items"]) == 2
    assert good(service.http.get(f"{API}/executions?until={early}"))["items"] == []
    assert good(service.http.get(f"{API}/executions?since={late}"))["items"] == []
    path = f"{API}/memory/namespace:n/keys/tone?at={early}"
    problem(service.http.get(path), 404, "NotFound")


def test_an_execution_is_what_the_client_shows(service: Running) -> None:
    begin(service.store, "failing", "failed-1", "owls")
    found = service.get("/executions/failed-1")
    view = KitaruClient(service.store).executions.get("failed-1").to_dict()
    assert found == json.loads(json.dumps(view))
    assert found["error"]["invocation"] == "broken"
    assert service.get("/executions/latest") == service.get("/executions/fail") == found


def test_values_that_json_lacks_are_shown(service: Running) -> None:
    begin(service.store, "odd", "odd-1")
    assert service.get("/executions/odd-1")["result"] == {
        "nan": "nan", "half": "\ud800", "bytes": "/w==", "deep": [[[[1]]]]
    }  # fmt: skip


def test_invocations_are_paged(service: Running) -> None:
    begin(service.store, "review", "waits-1", "cats")
    found = service.get("/executions/waits-1", limit=1)
    assert [one["id"] for one in found["invocations"]] == ["draft"]
    assert service.get("/executions/waits-1", after="draft")["invocations"] == []


def test_errors_are_problems_with_the_codes_of_kitaru(service: Running) -> None:
    http = service.http
    found = problem(http.get(f"{API}/executions/absent"), 404, "NotFound")
    assert found["help"].startswith("List the executions: kitaru executions list")
    problem(http.get(f"{API}/executions", params={"cursor": "absent"}), 404, "NotFound")
    problem(http.get(f"{API}/executions/a b"), 400, "UsageError")
    problem(http.get(f"{API}/nothing"), 404, "NotFound")
    problem(http.delete(f"{API}/executions"), 405, "MethodNotAllowed")
    found = problem(http.get(f"{API}/executions?limit=0&status=gone"), 422, "RequestInvalid")
    assert [one["at"] for one in found["errors"]] == ["query.status", "query.limit"]


def test_a_path_reaches_no_other_object(service: Running) -> None:
    begin(service.store, "plain", "done-1", "owls")
    for path in ("..%2f..%2fetc", "%2e%2e", "done-1%2fend", "done-1%00", "x%2fdone-1", "%C3%BC"):
        response = service.http.get(f"{API}/executions/{path}")
        assert response.status_code in (400, 404), (path, response.text)
        assert response.headers["content-type"] == "application/problem+json"


def test_a_damaged_record_is_an_error_of_the_service(service: Running) -> None:
    service.store.create("x/broken-1/execution", b"no record")
    problem(service.http.get(f"{API}/executions/broken-1"), 500, "RecordCorrupt")
