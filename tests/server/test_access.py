"""Roles: every path and tool declares one, each role may do what it is for, and only on its flows.

A path or a tool that is added and not named here fails the first two tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from kitaru import KitaruClient
from kitaru.errors import NotFound, RoleDenied, StoreDenied, UsageError
from kitaru.ops.access import ADMIN, APPROVER, OPERATOR, ROLES, VIEWER
from kitaru.server import accounts
from kitaru.server.access import each_route, need_of
from kitaru.server.app import make_app
from kitaru.server.mcp import _Tools, make_mcp
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys

from .conftest import API, Running, begin, good, problem, serving
from .test_changes import SOURCE
from .test_pages import HTML, page, post

# By path: the role of GET, and of the methods that change something. None: open to everybody.
PATHS: dict[str, tuple[str | None, str | None]] = {
    "/mcp": (VIEWER, VIEWER),
    "/openapi.json": (VIEWER, None),
    "/healthz": (None, None),
    "/readyz": (None, None),
    "/metrics": (VIEWER, None),
    "/static/{given}/{name}": (None, None),
    "/login": (None, None),
    "/logout": (None, VIEWER),
    "/": (VIEWER, None),
    "/inbox": (VIEWER, None),
    "/inbox/{exec_id}/{name:path}": (VIEWER, APPROVER),
    "/answer/{token}": (None, None),
    "/answer/{token}/done": (None, None),
    "/executions": (VIEWER, None),
    "/executions/{a}/compare/{b}": (VIEWER, None),
    "/executions/{exec_id}": (VIEWER, OPERATOR),
    "/executions/{exec_id}/images/{name:path}": (VIEWER, None),
    "/executions/{exec_id}/replay": (OPERATOR, OPERATOR),
    "/many": (None, OPERATOR),
    "/flows": (VIEWER, None),
    "/flows/{flow}": (VIEWER, OPERATOR),
    "/flows/{flow}/{version}/graph.svg": (VIEWER, None),
    "/memory": (VIEWER, None),
    "/memory/{scope}": (VIEWER, None),
    "/memory/{scope}/{key:path}": (VIEWER, None),
    "/usage": (VIEWER, None),
    "/audit": (ADMIN, None),
    f"{API}/executions": (VIEWER, None),
    f"{API}/executions/{{exec_id}}": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/calls": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/logs": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/logs/follow": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/events": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/artifacts": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/artifacts/{{name:path}}": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/downloads/{{name:path}}": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/files/{{name:path}}": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/signed-urls/{{name:path}}": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/lineage": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/diff/{{other}}": (VIEWER, None),
    f"{API}/many/cancel": (None, OPERATOR),
    f"{API}/many/retry": (None, OPERATOR),
    f"{API}/many/replay": (None, OPERATOR),
    f"{API}/executions/{{exec_id}}/cancel": (None, OPERATOR),
    f"{API}/executions/{{exec_id}}/resume": (None, OPERATOR),
    f"{API}/executions/{{exec_id}}/retry": (None, OPERATOR),
    f"{API}/executions/{{exec_id}}/replay": (None, OPERATOR),
    f"{API}/executions/{{exec_id}}/waits": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/answers": (VIEWER, None),
    f"{API}/executions/{{exec_id}}/waits/{{name}}/answer": (None, APPROVER),
    f"{API}/executions/{{exec_id}}/waits/{{name}}/abort": (None, APPROVER),
    f"{API}/executions/{{exec_id}}/inboxes/{{inbox}}/signals": (None, OPERATOR),
    f"{API}/waits": (VIEWER, None),
    f"{API}/flows": (VIEWER, None),
    f"{API}/flows/{{flow}}": (VIEWER, None),
    f"{API}/flows/{{flow}}/versions/{{version}}": (VIEWER, None),
    f"{API}/flows/{{flow}}/tags/{{tag}}": (None, OPERATOR),
    f"{API}/flows/{{flow}}/invoke": (None, OPERATOR),
    f"{API}/memory": (VIEWER, None),
    f"{API}/memory/{{scope}}/keys": (VIEWER, None),
    f"{API}/memory/{{scope}}/history/{{key:path}}": (VIEWER, None),
    f"{API}/memory/{{scope}}/keys/{{key:path}}": (VIEWER, OPERATOR),
    f"{API}/usage": (VIEWER, None),
    f"{API}/events": (VIEWER, OPERATOR),
    f"{API}/events/triggers": (VIEWER, None),
    f"{API}/events/{{source}}": (None, None),
    f"{API}/events/{{name}}/{{id:path}}": (VIEWER, None),
    f"{API}/schedules": (VIEWER, OPERATOR),
    f"{API}/schedules/{{id}}": (VIEWER, OPERATOR),
    f"{API}/schedules/{{id}}/next": (VIEWER, None),
    f"{API}/schedules/{{id}}/pause": (None, OPERATOR),
    f"{API}/schedules/{{id}}/resume": (None, OPERATOR),
    f"{API}/schedules/{{id}}/trigger": (None, OPERATOR),
    f"{API}/tokens": (ADMIN, ADMIN),
    f"{API}/tokens/{{id}}": (None, ADMIN),
    f"{API}/notifications": (VIEWER, None),
    f"{API}/notifications/channels": (ADMIN, None),
    f"{API}/notifications/channels/{{name}}/test": (None, ADMIN),
    f"{API}/audit": (ADMIN, None),
}  # fmt: skip
APPROVER_TOOLS = {"answer_wait", "abort_wait"}
OPERATOR_TOOLS = {
    "invoke_flow", "cancel_execution", "resume_execution", "retry_execution", "replay_execution",
    "move_tag", "remove_tag", "set_memory", "delete_memory", "send_signal", "send_event",
    "cancel_executions", "retry_executions", "replay_executions",
}  # fmt: skip
_READS = {"GET", "HEAD"}


def routes() -> Iterator[tuple[str, set[str], str | None]]:
    """Yield the path, the methods and the role of each route."""
    app: Any = make_app(open_store("memory:routes"), token="a token")
    for route in each_route(app._app.routes):
        need = need_of(route.endpoint)
        assert need is not None
        yield route.path, set(route.methods or _READS), need.role


def test_every_path_declares_its_role() -> None:
    found = [(path, bool(methods & _READS), role) for path, methods, role in routes()]
    assert {path for path, _, _ in found} == PATHS.keys()
    for path, reads, role in found:
        assert role == PATHS[path][0 if reads else 1], path


def test_every_tool_declares_its_role() -> None:
    tools = _Tools(KitaruClient(open_store("memory:tools")))
    make_mcp(tools.whole, is_local=True)
    for tool in (*tools.reading, *tools.writing, *tools.destroying, *tools.of_files):
        name, need = tool.__name__, need_of(tool)
        role = (
            APPROVER if name in APPROVER_TOOLS else OPERATOR if name in OPERATOR_TOOLS else VIEWER
        )
        assert need is not None and need.role == role, name


@pytest.fixture
def open_to_all(store: Store) -> Iterator[tuple[Running, dict[str, dict[str, str]]]]:
    """A service with accounts, and the headers of a token of each role."""
    tokens = KitaruClient(store).tokens
    made = {role: tokens.create(f"the {role}", role).secret for role in ROLES}
    with serving(store, accounts=True) as service:
        yield service, {role: {"authorization": f"Bearer {made[role]}"} for role in ROLES}


def test_each_role_is_refused_what_it_may_not_do(
    open_to_all: tuple[Running, dict[str, dict[str, str]]],
) -> None:
    service, headers = open_to_all
    for path, methods, role in routes():
        address = re.sub(r"{\w+(:path)?}", "absent", path)
        if path in ("/mcp", "/login", "/logout") or path.endswith(("/follow", "/events")):
            continue
        for method in methods - {"HEAD"}:
            if role is not None:
                problem(service.http.request(method, address), 401, "TokenRequired")
            for caller in ROLES:
                body = {"content-type": "application/json"} if method not in _READS else {}
                done = service.http.request(method, address, headers=headers[caller] | body)
                is_refused = role is not None and ROLES.index(caller) < ROLES.index(role)
                assert (done.status_code == 403) == is_refused, (method, path, caller, done.text)
                assert done.status_code not in (401, 500), (method, path, caller, done.text)
                if is_refused:
                    assert done.json()["code"] == "RoleDenied"


def test_tools_check_the_role_of_their_caller(
    open_to_all: tuple[Running, dict[str, dict[str, str]]],
) -> None:
    httpx2 = pytest.importorskip("httpx2")
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    service, headers = open_to_all
    begin(service.store, "review", "waits-1", "tea")

    @asynccontextmanager
    async def session_of(role: str) -> AsyncIterator[Any]:
        async with (
            httpx2.AsyncClient(headers=headers[role]) as http,
            Client(streamable_http_client(f"{service.url}/mcp", http_client=http)) as session,
        ):
            yield session

    async def call(role: str, tool: str, **arguments: Any) -> tuple[bool, str]:
        async with session_of(role) as session:
            done = await session.call_tool(tool, arguments)
            return done.is_error, done.content[0].text

    async def listed(role: str) -> set[str]:
        async with session_of(role) as session:
            return {tool.name for tool in (await session.list_tools()).tools}

    async def use() -> None:
        shown = {role: await listed(role) for role in ROLES}
        assert "list_waits" in shown[VIEWER]
        assert shown[APPROVER] - shown[VIEWER] == APPROVER_TOOLS
        assert shown[OPERATOR] - shown[APPROVER] == OPERATOR_TOOLS
        assert shown[ADMIN] == shown[OPERATOR]
        assert not (await call(VIEWER, "list_waits"))[0]
        failed, text = await call(VIEWER, "answer_wait", exec_id="waits-1", wait="ok", value=True)
        assert failed and "RoleDenied" in text and "the viewer" in text
        failed, text = await call(APPROVER, "cancel_execution", exec_id="waits-1")
        assert failed and "RoleDenied" in text
        failed, text = await call(APPROVER, "answer_wait", exec_id="waits-1", wait="ok", value=True)
        assert not failed, text

    anyio.run(use)
    [given] = KitaruClient(service.store).executions.get("waits-1").answers
    assert re.fullmatch(r"the approver \(token [0-9a-f]{12}\)", given.by)


def test_a_store_contains_no_token(store: Store) -> None:
    made = KitaruClient(store).tokens.create("ci", VIEWER)
    assert made.secret.startswith(f"{made.token.prefix}_")
    held = b"".join(data for _, data in store.scan(""))
    assert made.secret.encode() not in held
    assert made.secret.split("_", 2)[2].encode() not in held


def test_tokens_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SECONDS_UNTIL_CHECKED", 0.0)
    tokens = KitaruClient(store).tokens
    first, second = tokens.create("ci", VIEWER), tokens.create("ci", VIEWER)
    short = tokens.create("short", VIEWER, expires=timedelta(microseconds=1))
    with serving(store, accounts=True) as service:

        def status(secret: str) -> int:
            sent = {"authorization": f"Bearer {secret}"}
            return int(service.http.get(f"{API}/executions", headers=sent).status_code)

        assert status(first.secret) == status(second.secret) == 200
        assert status(short.secret) == 401
        forged = first.secret[:-1] + ("A" if first.secret[-1] != "A" else "B")
        for wrong in ("kit_", forged, f"kit_{'0' * 12}_{'A' * 43}"):
            assert status(wrong) in (400, 401), wrong
        with pytest.raises(UsageError, match="2 tokens have the name ci"):
            tokens.revoke("ci")
        ended = tokens.revoke(first.token.prefix)
        assert (ended.state, status(first.secret), status(second.secret)) == ("revoked", 401, 200)
        # An earlier revocation stays.
        assert tokens.revoke(first.token.id) == ended
        assert tokens.revoke("ci").id == second.token.id
        assert status(second.secret) == 401
    with pytest.raises(NotFound):
        tokens.revoke("another")
    assert [one.state for one in tokens.list()] == ["revoked", "revoked", "expired"]


@pytest.mark.parametrize(
    ("name", "role", "flows"),
    [("", VIEWER, ()), ("a\nb", VIEWER, ()), ("a" * 101, VIEWER, ()), ("ci", "root", ()),
     ("ci", VIEWER, ("a/b",)), ("ci", VIEWER, ("",)), ("ci", VIEWER, ("a",) * 101)],
)  # fmt: skip
def test_tokens_that_are_not_valid(store: Store, name: str, role: str, flows: Any) -> None:
    with pytest.raises(UsageError):
        KitaruClient(store).tokens.create(name, role, flows=flows)
    assert KitaruClient(store).tokens.list() == []


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("limited")
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    begin(store, "review", "mine-1", "tea")
    begin(store, "two_questions", "theirs-1")
    begin(store, "plain", "theirs-2", "owls")
    client = KitaruClient(store)
    for flow in ("review", "secret_flow"):
        source = SOURCE.replace("def review", f"def {flow}")
        (folder / f"{flow}.py").write_text(source)
        client.deployments.deploy(str(folder / f"{flow}.py"), "local")
        client.memory.set("key", flow, scope=f"flow:{flow}")
    client.memory.set("key", 1, scope="namespace:shared")
    return store


class TestLimitedToFlows:
    """Tokens of one flow, in a store with another one."""

    @pytest.fixture
    def limited(self, both: Store) -> Iterator[Running]:
        made = KitaruClient(both).tokens.create("mine", OPERATOR, flows=["rev*"])
        with serving(both, accounts=True) as service:
            service.http.headers["authorization"] = f"Bearer {made.secret}"
            yield service

    def test_lists_contain_only_them(self, limited: Running) -> None:
        listed = [one["exec_id"] for one in limited.get("/executions")["items"]]
        assert listed == ["mine-1"]
        assert [one["exec_id"] for one in limited.get("/waits")["items"]] == ["mine-1"]
        assert [one["flow"] for one in limited.get("/flows")["items"]] == ["review"]
        assert [one["scope"] for one in limited.get("/memory")["items"]] == ["flow:review"]
        assert limited.get("/usage", days=1)["items"] == []
        for path in ("/inbox", "/executions", "/flows", "/memory", "/usage"):
            html = page(limited, path)
            for other in ("theirs", "two_questions", "secret_flow", "namespace:"):
                assert other not in html, path

    def test_nothing_else_exists(self, limited: Running) -> None:
        assert limited.get("/executions/latest")["exec_id"] == "mine-1"
        assert limited.get("/executions/mine")["exec_id"] == "mine-1"
        for path in (
            "/executions/theirs-1", "/executions/theirs", "/executions/theirs-2/artifacts",
            "/executions/theirs-2/downloads/draft", "/executions/mine-1/diff/theirs-1",
            "/executions/theirs-1/waits", "/executions/theirs-1/events", "/flows/secret_flow",
            "/flows/secret_flow/versions/v1", "/memory/namespace:shared/keys/key",
            "/memory/flow:secret_flow/keys/key", "/memory/execution:theirs-1/keys/key",
        ):  # fmt: skip
            problem(limited.http.get(API + path), 404, "NotFound")
        for path, body in (
            ("/executions/theirs-1/cancel", None),
            ("/executions/theirs-1/waits/first-one/answer", {"value": 1}),
            ("/flows/secret_flow/invoke", {"inputs": {"topic": "tea"}}),
        ):
            problem(limited.post(path, body), 404, "NotFound")
        sent = {"json": {"value": 1}}
        for scope in ("namespace:shared", "namespace:new", "flow:secret_flow"):
            place = f"{API}/memory/{scope}/keys/key"
            problem(limited.http.put(place, **sent), 403, "RoleDenied")
        good(limited.http.put(f"{API}/memory/flow:review/keys/key", **sent))
        # What is about the whole store.
        for path in ("/metrics", f"{API}/tokens", f"{API}/audit"):
            problem(limited.http.get(path), 403, "RoleDenied")

    def test_they_can_be_answered_and_started(self, limited: Running) -> None:
        good(limited.post("/executions/mine-1/waits/ok/answer", {"value": True}))
        done = limited.post("/flows/review/invoke", {"inputs": {"topic": "tea"}})
        assert done.status_code == 201, done.text
        assert limited.get(f"/executions/{done.json()['exec_id']}")["flow"] == "review"


class TestSessions:
    """A browser with a session."""

    @pytest.fixture
    def closed(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
        monkeypatch.setattr(accounts, "SECONDS_UNTIL_CHECKED", 0.0)
        with serving(store, accounts=True) as service:
            yield service

    def log_in(self, service: Running, secret: str) -> dict[str, str]:
        done = post(service, "/login", {"token": secret, "to": "/"})
        return {"cookie": done.headers["set-cookie"].partition(";")[0]}

    def test_a_session_ends_with_its_token(self, closed: Running) -> None:
        tokens = KitaruClient(closed.store).tokens
        made = tokens.create("maria", VIEWER)
        session = self.log_in(closed, made.secret)
        assert made.secret not in session["cookie"]
        assert closed.http.get("/executions", headers=HTML | session).status_code == 200
        tokens.revoke("maria")
        assert closed.http.get("/executions", headers=HTML | session).status_code == 303

    def test_logging_out_ends_it_everywhere(self, closed: Running) -> None:
        made = KitaruClient(closed.store).tokens.create("maria", VIEWER)
        session = self.log_in(closed, made.secret)
        post(closed, "/logout", {}, **session)
        assert closed.http.get("/executions", headers=HTML | session).status_code == 303

    def test_a_session_is_new_at_each_login(self, closed: Running) -> None:
        """Session fixation: what a browser sent before is never what it is logged in with."""
        made = KitaruClient(closed.store).tokens.create("maria", VIEWER)
        planted = {"cookie": f"kitaru_session=kit_{'a' * 12}_{'b' * 43}"}
        done = post(closed, "/login", {"token": made.secret, "to": "/"}, **planted)
        first = done.headers["set-cookie"].partition(";")[0]
        assert (
            first != planted["cookie"]
            and "; HttpOnly; SameSite=Lax" in (done.headers["set-cookie"])
        )
        second = self.log_in(closed, made.secret)["cookie"]
        assert first != second
        assert closed.http.get("/inbox", headers=HTML | planted).status_code == 303

    def test_a_token_is_no_session_and_a_session_no_token(self, closed: Running) -> None:
        made = KitaruClient(closed.store).tokens.create("maria", VIEWER)
        cookie = {"cookie": f"kitaru_session={made.secret}"}
        problem(closed.http.get(f"{API}/waits", headers=cookie), 401, "TokenRequired")
        session = self.log_in(closed, made.secret)["cookie"].partition("=")[2]
        bearer = {"authorization": f"Bearer {session}"}
        problem(closed.http.get(f"{API}/waits", headers=bearer), 401, "TokenRequired")
        assert post(closed, "/login", {"token": session, "to": "/"}).status_code == 401

    def test_a_new_token_of_the_environment_ends_sessions(self, store: Store) -> None:
        with serving(store, token="the first token") as service:
            session = self.log_in(service, "the first token")
            del service.http.headers["authorization"]
            good(service.http.get(f"{API}/waits", headers=session))
        with serving(store, token="the first token") as another:
            del another.http.headers["authorization"]
            good(another.http.get(f"{API}/waits", headers=session))
        with serving(store, token="the second token") as service:
            del service.http.headers["authorization"]
            problem(service.http.get(f"{API}/waits", headers=session), 401, "TokenRequired")

    def test_expired_sessions_are_removed(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "SESSION", timedelta(microseconds=1))
        with serving(store, token="t-1") as service:
            for _ in range(3):
                self.log_in(service, "t-1")
        assert len(store.list(keys.tokens())) == 1


def test_pages_show_only_what_a_role_may_do(store: Store, tmp_path: Path) -> None:
    begin(store, "review", "waits-1", "tea")
    (tmp_path / "review.py").write_text(SOURCE)
    client = KitaruClient(store)
    client.deployments.deploy(str(tmp_path / "review.py"), "local")
    made = {role: client.tokens.create(role, role).secret for role in ROLES}
    asked = ("/executions/waits-1", "/inbox/waits-1/ok", "/flows/review")
    shown: dict[str, list[str]] = {}
    with serving(store, accounts=True) as service:
        for role in ROLES:
            sent = {"authorization": f"Bearer {made[role]}"}
            html = "".join(service.http.get(path, headers=HTML | sent).text for path in asked)
            words = ("Cancel the execution", "Replay…", "Send answer", "End the execution instead",
                     "Start on", "Move to v1", 'href="/audit"')  # fmt: skip
            shown[role] = [word for word in words if word in html]
            assert f"{role} (token" in html
    assert shown[VIEWER] == []
    assert shown[APPROVER] == ["Send answer", "End the execution instead"]
    assert shown[OPERATOR] == [
        "Cancel the execution", "Replay…", "Send answer", "End the execution instead", "Start on",
        "Move to v1",
    ]  # fmt: skip
    assert shown[ADMIN] == [*shown[OPERATOR], 'href="/audit"']


def test_the_client_reports_what_the_role_does_not_allow(store: Store) -> None:
    begin(store, "review", "waits-1", "tea")
    made = KitaruClient(store).tokens.create("reader", VIEWER)
    with serving(store, accounts=True) as service:
        client = KitaruClient(service.url, token=made.secret)
        assert client.executions.get("waits-1").status == "waiting"
        with pytest.raises(RoleDenied, match="does not have the role approver"):
            client.executions.input("waits-1", True)
        with pytest.raises(RoleDenied):
            client.tokens.list()
        with pytest.raises(StoreDenied):
            KitaruClient(service.url, token=made.secret[:-2]).executions.list()


def test_who_did_what_is_listed(store: Store) -> None:
    begin(store, "review", "waits-1", "tea")
    client = KitaruClient(store)
    made = client.tokens.create("ops", OPERATOR)
    with serving(store, accounts=True) as service:
        ops = KitaruClient(service.url, token=made.secret)
        ops.executions.input("waits-1", True)
        with pytest.raises(Exception, match="already"):
            ops.executions.input("waits-1", False)
    found = client.audit(by="OPS (token").items
    assert [(one.action, one.subject, one.error) for one in found] == [
        ("answer", "ok", "WaitConflict"), ("answer", "ok", ""),
    ]  # fmt: skip
    with serving(store, token="root") as service:
        html = page(service, "/audit?action=answer")
        assert html.count("ops (token") == 2 and "WaitConflict" in html
        listed = service.get("/audit", action="create token")["items"]
        assert [one["subject"] for one in listed] == ["ops (operator)"]
        assert json.dumps(listed).count(made.secret) == 0
