"""The pages without a browser: what they show, what they accept, and what they refuse."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from kitaru.errors import CheckpointFailed
from kitaru.ops.verify import verify
from kitaru.runtime.engine import local_run
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.journal import sources
from kitaru.runtime.steps.modules import import_file
from kitaru.server.pages import source, values
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from tests.waiting import wait_until

from . import page_flows
from .browser_forms import sent
from .conftest import Running, begin, serving

HTML = {"accept": "text/html"}


def page(running: Running, path: str, status: int = 200, **options: Any) -> str:
    response = running.http.get(path, headers=HTML, **options)
    assert response.status_code == status, response.text
    text: str = response.text
    return text


def post(running: Running, path: str, fields: dict[str, Any], **headers: str) -> Any:
    given = {"origin": running.url.rstrip("/"), **HTML, **headers}
    return running.http.post(path, data=fields, headers=given)


PAGES = [
    "/inbox",
    "/inbox?flow=review",
    "/inbox/waits/legal",
    "/inbox/pictures/look",
    "/executions/pictures?row=letter&tab=result",
    "/executions/pictures?row=pictures&tab=result",
    "/executions",
    "/executions?q=kayaks+status:waiting",
    "/executions?q=nothing+like+this",
    "/executions/waits",
    "/executions/waits?opened=square&scale=true",
    "/executions/waits?row=draft/call-1&tab=call",
    "/executions/waits?row=draft&tab=from",
    "/executions/waits?row=research&tab=result&only=row",
    "/executions/waits?row=research&tab=notes",
    "/executions/fails",
    "/executions/fails?row=broken&tab=why",
    "/executions/waits/replay",
    "/executions/waits/compare/other",
    "/flows",
    "/flows/review",
    "/memory",
    "/memory/flow:review",
    "/memory/flow:review?prefix=x",
    "/memory/flow:review/tone",
    "/memory/flow:review/tone?version=1",
    "/memory/flow:review/tone?at=2020-01-01T00:00",
    "/usage",
    "/usage?days=90&flow=review",
]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_foreign_texts_harmlessly(shown: Running, path: str) -> None:
    response = shown.http.get(path, headers=HTML)
    assert response.status_code == 200
    html = response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert response.headers["cache-control"] == "no-store"
    assert not re.search(r"\sstyle=|\son\w+=\"|<script>alert|<img src=x|javascript:[^a]", html)
    assert not re.search(r"(?:href|src)=\"(?!/)(?!#)(?!\?)", html)
    # Invisible and direction-changing characters are shown by their code points.
    assert not set(html) & set("\u202e\u2066\u2069\u200b\u001b\u0000")
    # Every tag of a foreign text is text.
    scripts = re.findall(r"<script[^>]*>", html)
    assert len(scripts) == 1 and "/static/" in scripts[0]


def test_values_are_shown_as_people_read_them(shown: Running) -> None:
    html = page(shown, "/inbox/pictures/look")
    assert '<img class="shown" src="/executions/pictures/images/look/evidence/3"' in html
    assert "50 of 60 rows" in html and html.count("<tr>") > 50
    for expected in ("<strong>page 2</strong>", "<em>all</em>", "<li>two</li>", "heading h1"):
        assert expected in html
    for foreign in ("[click](javascript:alert(1))", "![x](http://evil.example/x.png)"):
        assert html.count(foreign) == 2
    image = shown.http.get("/executions/pictures/images/look/evidence/3")
    assert (image.content, image.headers["content-type"]) == (page_flows.png(160, 40), "image/png")
    html = page(shown, "/executions/pictures?row=pictures&tab=result")
    assert "/images/pictures" in html and "/images/svg" not in html
    for path in ("images/polyglot", "images/pictures"):
        image = shown.http.get(f"/executions/pictures/{path}")
        # Never a page, whatever follows the image.
        assert image.headers["content-type"] == "image/png"
        assert image.headers["x-content-type-options"] == "nosniff"
        assert image.headers["content-security-policy"].startswith("sandbox")
    for path in ("images/svg", "images/letter"):
        assert shown.http.get(f"/executions/pictures/{path}").status_code == 400
    assert shown.http.get("/executions/pictures/images/gone").status_code == 404


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_data_frame_is_a_table(store: Store, kind: str) -> None:
    library = pytest.importorskip(kind)
    frame = library.DataFrame({"a": [*range(70)], "b": [page_flows.HOSTILE] * 70})
    handle = page_flows.returns.options(store=store).run(frame)
    handle.wait()
    journal = KitaruClient(store).executions.get(handle.exec_id).journal
    stored = find_artifact(journal, "same")
    table = values.shown(journal, stored, "same").table
    assert table is not None and not table.is_complete
    assert (table.heads, table.height, table.rows[2]) == (["a", "b"], 70, [2, page_flows.HOSTILE])


def test_the_form_of_a_question_answers_it(shown: Running) -> None:
    html = page(shown, "/inbox/waits/legal")
    fields = next(one for one in sent(html) if "v.1#" in one or "v.2" in one)
    missing = post(shown, "/inbox/waits/legal", fields)
    assert missing.status_code == 422 and "Choose one." in missing.text
    changed = post(shown, "/inbox/waits/legal", fields | {"add": ["v.1"]})
    assert changed.status_code == 200 and 'name="v.1.0.0"' in changed.text
    again = sent(changed.text)
    fields = next(one for one in again if "v.1#" in one) | {"v.0": ["0"], "v.1.0.0": ["7.2"]}
    wrong = post(shown, "/inbox/waits/legal", fields | {"v.2": ["many"]})
    assert wrong.status_code == 422 and "many" in wrong.text and "whole number" in wrong.text
    stale = post(shown, "/inbox/waits/legal", fields | {"asked": ["another"]})
    assert stale.status_code == 409 and "The question has changed" in stale.text
    done = post(shown, "/inbox/waits/legal", fields)
    assert (done.status_code, done.headers["location"]) == (303, "/inbox/waits/legal")
    [given] = KitaruClient(shown.store).executions.get("waits").answers
    expected = {
        "verdict": "approve",
        "changes": [{"clause": "7.2", "must": False}],
        "limit": 100,
    }
    assert (given.value, given.by) == (expected, "http")
    assert "The answer is recorded" in page(shown, "/inbox/waits/legal")
    # A second answer is refused, and says so.
    late = post(shown, "/inbox/waits/legal", fields | {"v.0": ["1"]})
    assert late.status_code == 409 and "Your answer is not recorded" in late.text


def test_the_evidence_is_beside_the_question(shown: Running) -> None:
    begin(shown.store, "review", "evidence", "tea", module=page_flows)
    html = page(shown, "/inbox/evidence/legal")
    assert "<bdi>Draft</bdi>" in html and "<bdi>Brief &lt;script&gt;" in html
    assert "[kitaru offline model" in html
    # Without evidence, the last result is shown.
    assert "Result of" not in html
    html = page(shown, "/inbox/asks/ok")
    assert "The flow recorded nothing to show" in html


def test_an_execution_is_ended_instead_of_answered(shown: Running) -> None:
    begin(shown.store, "ask", "ended", "tea", module=page_flows)
    html = page(shown, "/inbox/ended/ok")
    fields = next(one for one in sent(html) if "asked" in one)
    assert post(shown, "/inbox/ended/ok", fields | {"act": "abort"}).status_code == 303
    assert "The execution was ended" in page(shown, "/inbox/ended/ok")
    assert KitaruClient(shown.store).executions.get("ended").status == "cancelled"


def test_an_execution_is_cancelled(shown: Running) -> None:
    begin(shown.store, "ask", "stopped", "tea", module=page_flows)
    assert post(shown, "/executions/stopped", {"act": "cancel"}).status_code == 303
    assert KitaruClient(shown.store).executions.get("stopped").status == "cancelled"


def test_a_replay_of_a_local_execution_is_a_command(shown: Running) -> None:
    html = page(shown, "/executions/other/replay")
    [fields] = [one for one in sent(html) if "start" in one]
    changes = {"start": ["draft"], "input.topic": ["owls"], "alias": ["strong"], "model": ["a/b"],
               "result_of": ["research"], "result": ['{"x": 1}']}  # fmt: skip
    text = post(shown, "/executions/other/replay", fields | changes).text
    for part in ("--from draft", "--input topic=owls", "model.strong=a/b", "checkpoint.research="):
        assert part in text
    wrong = post(shown, "/executions/other/replay", fields | {"result_of": "draft", "result": "{"})
    assert wrong.status_code == 422 and "This is not JSON" in wrong.text


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/executions/nothing-like-it", 404, "There is no"),
        ("/inbox/asks/other", 404, "no wait"),
        ("/nothing", 404, "no such path"),
        ("/flows/none", 404, "There is no flow"),
        ("/memory/flow:review/none", 404, "has no key"),
        ("/memory/flow:review/tone?at=yesterday", 400, "not a moment"),
        ("/executions?q=status:lost", 400, "no status"),
        ("/executions?q=since:long", 400, "not a period"),
        ("/usage?days=0", 422, "not valid"),
    ],
)
def test_an_error_is_a_page_for_browsers(shown: Running, path: str, status: int, says: str) -> None:
    assert says in page(shown, path, status)
    # A program gets a problem.
    response = shown.http.get(path)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused(shown: Running, headers: dict[str, str]) -> None:
    fields = {"v": "0", "act": "abort"}
    assert post(shown, "/inbox/asks/ok", fields, **headers).status_code == 403
    # Browsers send the origin of every form. A program can use the API.
    response = shown.http.post("/inbox/asks/ok", data=fields)
    assert response.status_code == 415
    api = "/api/v1/executions/asks/cancel"
    assert shown.http.post(api, data=fields).status_code == 415
    assert KitaruClient(shown.store).executions.get("asks").status == "waiting"


def test_a_link_of_another_site_may_be_followed(shown: Running) -> None:
    navigation = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    followed = navigation | {"sec-fetch-dest": "document"}
    assert shown.http.get("/inbox", headers=HTML | followed).status_code == 200
    for other in (navigation | {"sec-fetch-dest": "iframe"}, {"sec-fetch-site": "cross-site"}):
        assert shown.http.get("/inbox", headers=HTML | other).status_code == 403
    assert shown.http.get("/api/v1/waits", headers=followed).status_code == 403


def test_static_files_are_kept_by_browsers(shown: Running) -> None:
    paths = re.findall(r'(?:src|href)="(/static/[^"#]+)', page(shown, "/inbox"))
    for path in {*paths}:
        response = shown.http.get(path)
        assert response.status_code == 200 and "immutable" in response.headers["cache-control"]
        for other in (path + "x", path.replace("/static/", "/static/0"), "/static/x/../../app.py"):
            assert shown.http.get(other).status_code == 404


def test_secrets_are_hidden(shown: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "kayaks-and-other-boats")
    begin(shown.store, "ask", "secretive", "tea", module=page_flows)
    assert "kayaks-and-other-boats" not in page(shown, "/executions?q=kayaks-and-other-boats")


def test_a_second_page_of_the_inbox(shown: Running, tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'many.db'}")
    for number in range(53):
        begin(store, "ask", f"many-{number:02}", "tea", module=page_flows)
    with serving(store) as running:
        first = page(running, "/inbox")
        [newer] = re.findall(r'href="(/inbox\?cursor=[^"]+)"', first)
        assert first.count('class="ask"') == 50
        assert page(running, newer.replace("&amp;", "&")).count('class="ask"') == 3


class TestLogin:
    """A service with a token."""

    @pytest.fixture
    def closed(self, store: Store) -> Iterator[Running]:
        with serving(store, token="a-token-of-some-length") as running:
            del running.http.headers["authorization"]
            yield running

    def test_a_person_logs_in_and_out(self, closed: Running) -> None:
        asked = closed.http.get("/executions?status=failed", headers=HTML)
        assert asked.status_code == 303
        assert asked.headers["location"] == "/login?to=%2Fexecutions%3Fstatus%3Dfailed"
        login = closed.http.get(asked.headers["location"], headers=HTML)
        [fields] = sent(login.text)
        assert fields["to"] == ["/executions?status=failed"]
        wrong = post(closed, "/login", fields | {"token": ["guess"]})
        assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
        right = post(closed, "/login", fields | {"token": ["a-token-of-some-length"]})
        cookie = right.headers["set-cookie"]
        assert right.headers["location"] == "/executions?status=failed"
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        assert "a-token-of-some-length" not in cookie
        session = {"cookie": cookie.partition(";")[0]}
        assert closed.http.get("/executions", headers=HTML | session).status_code == 200
        assert closed.http.get("/api/v1/executions", headers=session).status_code == 200
        out = post(closed, "/logout", {}, **session)
        assert "Max-Age=0" in out.headers["set-cookie"]

    def test_other_cookies_are_no_session(self, closed: Running) -> None:
        for value in ("", "1", "99999999999.", "99999999999.00", "x.y", "²." + "0" * 64):
            cookie = {"cookie": f"kitaru_session={value}".encode()}
            response = closed.http.get("/api/v1/executions", headers=cookie)
            assert response.status_code == 401, value

    def test_an_address_of_another_service_is_not_followed(self, closed: Running) -> None:
        for to in ("//attacker.example", "https://attacker.example", "/\\attacker", "/\r\nx: y"):
            fields = {"token": "a-token-of-some-length", "to": to}
            assert post(closed, "/login", fields).headers["location"] == "/"

    def test_programs_get_a_problem(self, closed: Running) -> None:
        assert closed.http.get("/executions").status_code == 401
        assert closed.http.get("/api/v1/executions", headers=HTML).status_code == 401
        assert closed.http.post("/inbox/x/y", headers=HTML).status_code == 401


def test_a_deployed_flow_is_started_and_its_tags_are_moved(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(
        "from kitaru import checkpoint, flow\n\n@checkpoint\ndef twice(n): return 2 * n\n\n"
        "@flow\ndef double(n: int, note: str = 'x', extra: list[int] | None = None) -> int:\n"
        '    """Double a number."""\n    return twice(n)\n'
    )
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    KitaruClient(store).deployments.deploy(str(file))
    with serving(store) as running:
        html = page(running, "/flows/double")
        assert "Double a number." in html
        image = running.http.get("/flows/double/v1/graph.svg")
        assert image.headers["content-type"] == "image/svg+xml" and "twice" in image.text
        fields = next(one for one in sent(html) if "start" in one)
        wrong = post(running, "/flows/double", fields | {"v.0": "two"})
        assert wrong.status_code == 422 and "whole number" in wrong.text
        done = post(running, "/flows/double", fields | {"v.0": "21", "v.2": "[1, 2]"})
        assert done.status_code == 303
        # A form that is sent twice starts one execution.
        again = post(running, "/flows/double", fields | {"v.0": "21", "v.2": "[1, 2]"})
        assert again.headers["location"] == done.headers["location"]
        exec_id = done.headers["location"].rpartition("/")[2]
        wait_until(lambda: status_of(store, exec_id) == "completed")
        found = KitaruClient(store).executions.get(exec_id)
        assert (found.inputs, found.result) == ({"n": 21, "extra": [1, 2], "note": "x"}, 42)
        moved = {"act": "tag", "version": "v1", "tag": "stable"}
        assert post(running, "/flows/double", moved).status_code == 303
        assert "stable" in page(running, "/flows")
        post(running, "/flows/double", {"act": "untag", "tag": "stable"})
        assert KitaruClient(store).deployments.tags("double") == {"default": 1}


def status_of(store: Store, exec_id: str) -> str:
    return next(
        (str(one["status"]) for one in KitaruClient(store).executions.list()
         if one["exec_id"] == exec_id), "",
    )  # fmt: skip


def test_the_source_is_shown_beside_the_timeline(tmp_path: Path) -> None:
    lines = ["from kitaru import checkpoint, flow, wait", "", "@checkpoint", "def draft() -> str:"]
    lines += ["    return '<b>\u202e'  # " + page_flows.HOSTILE.split("\n")[0][:60], ""]
    lines += ["@flow", "def review() -> bool:", *["    # filler"] * 20, "    draft()"]
    lines += ["    return wait(name='ok', schema=bool)", *["    # filler"] * 30]
    (tmp_path / "review.py").write_text("\n".join(lines) + "\n", "utf-8")
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    client = KitaruClient(store)
    client.deployments.deploy(str(tmp_path / "review.py"), "local")
    handle = client.deployments.invoke("review", {})
    assert handle.settle(240) == "waiting"
    with serving(store) as running:
        html = page(running, f"/executions/{handle.exec_id}?row=draft")
        [current] = re.findall(r'<tr class="hit".*?</tr>', html)
        assert ">29</a>" in current and "draft()" in current and "row=draft" in current
        assert html.count('<td class="no">') == 29 and "All 60 lines" in html
        whole = page(running, f"/executions/{handle.exec_id}?row=ok&lines=all")
        [current] = re.findall(r'<tr class="hit".*?</tr>', whole)
        assert ">30</a>" in current and whole.count('<td class="no">') == 60
        assert "&lt;b&gt;" in whole and "\u202e" not in whole and "from kitaru import" in whole


LOCAL = """
from kitaru import checkpoint, flow, wait

@checkpoint
def draft() -> str:
    return "a"

@checkpoint
def send(text: str) -> str:
    raise ValueError(text)

@flow
def letter() -> str:
    text = draft()
    wait(name="ok", schema=bool)
    return send(text)
"""


def marked(html: str) -> list[tuple[str, str, str]]:
    """Return the marked lines of the source: class, number and text."""
    found = re.findall(r'<tr class="(hit|raised)".*?<td class="no">(.*?)</td><td>(.*?)</td>', html)
    return [(kind, re.sub("<.*?>", "", no), re.sub("<.*?>", "", text)) for kind, no, text in found]


def test_the_source_of_a_local_execution_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "letters_of_a_test.py"
    file.write_text(LOCAL)
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    client = KitaruClient(store)

    def loaded() -> Any:
        return import_file(file, "letters_of_a_test").letter

    for exec_id in ("one", "two"):
        begin(store, "letter", exec_id, module=import_file(file, "letters_of_a_test"))
    [kept] = store.list("source/")
    assert (store.get(kept) or b"").decode() == LOCAL
    # The execution is continued with other lines, then replayed with others again.
    file.write_text("# One line more.\n" + LOCAL)
    sys.modules.pop("letters_of_a_test")
    client.executions.input("one", True)
    with pytest.raises(CheckpointFailed, match="ValueError: a"):
        loaded().resume("one", store=store).wait()
    file.write_text("# One line more.\n# And one.\n" + LOCAL)
    sys.modules.pop("letters_of_a_test")
    with pytest.raises(CheckpointFailed, match="ValueError: a"):
        loaded().replay("one", start="send", store=store).wait()
    sys.modules.pop("letters_of_a_test")
    replayed = client.executions.list()[0]["exec_id"]
    assert len(store.list("source/")) == 3 and len(store.list("x/one/source/")) == 1
    with serving(store) as running:
        shown = page(running, "/executions/one")
        assert marked(shown) == [
            ("raised", "11", "    raise ValueError(text) ← failed here"),
            ("hit", "17", "    return send(text)"),
        ]
        # Each row with the lines that ran then.
        assert marked(page(running, "/executions/one?row=draft"))[0][1] == "14"
        assert marked(page(running, "/executions/one?row=ok"))[0][1] == "16"
        assert "row=draft" not in shown.partition('id="source"')[2].partition("</section>")[0]
        assert [no for _, no, _ in marked(page(running, f"/executions/{replayed}"))] == ["12", "18"]
        assert marked(page(running, f"/executions/{replayed}?row=draft"))[0][1] == "14"
    assert verify(store).findings == ()
    store.delete(kept)
    assert {one.key for one in verify(store).findings} == {kept}
    source._read.clear()
    with serving(store) as running:
        assert "is not recorded" in page(running, "/executions/two")


def test_a_source_is_not_recorded_that_others_must_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secretive.py"
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")

    def digest() -> str:
        exec_id = f"e{len(KitaruClient(store).executions.list())}"
        begin(store, "letter", exec_id, module=import_file(file, "secretive"))
        sys.modules.pop("secretive")
        return KitaruClient(store).executions.get(exec_id).journal.execution.source

    def written(text: str) -> None:
        file.write_text(text + LOCAL)

    written('KEY = "sk-' + "q8Zr2vT0xW4nKp7LdYb3Hc" + '"\n')
    hidden = (store.get(keys.source(digest())) or b"").decode()
    assert hidden.startswith('KEY = "***"') and hidden.endswith(LOCAL)
    monkeypatch.setenv("DATABASE_PASSWORD", "correct horse 7")
    written('PASSWORD = "correct horse 7"\n')
    hidden = (store.get(keys.source(digest())) or b"").decode()
    assert hidden.startswith('PASSWORD = "***"')
    written('PEM = """-----BEGIN PRIVATE KEY-----\n' + "MIIEvQIBADANBgkqh1" + '"""\n')
    assert digest() == ""
    written("#" * sources.MAX_BYTES)
    assert digest() == ""
    written("")
    flow = import_file(file, "secretive").letter
    written("# later")
    flow.options(store=store, exec_id="late").run().settle(60)
    assert KitaruClient(store).executions.get("late").journal.execution.source == ""
    monkeypatch.setenv("KITARU_SOURCE", "off")
    sys.modules.pop("secretive")
    assert digest() == ""
    local_run._running.clear()


def test_executions_are_changed_together_after_a_confirmation(service: Running) -> None:
    for exec_id in ("a", "b"):
        begin(service.store, "ask", exec_id, page_flows.HOSTILE, module=page_flows)
    begin(service.store, "failing", "c", "tea", module=page_flows)
    assert 'name="exec_id" value="a"' in page(service, "/executions")
    chosen = {"exec_id": ["a", "b", "c", "gone", "a"], "act": "cancel"}
    preview = post(service, "/many", chosen)
    assert preview.status_code == 200 and "Cancel 2 executions?" in preview.text
    assert "no execution gone" in preview.text and "<script>alert" not in preview.text
    [*_, form] = sent(preview.text)
    assert form["exec_id"] == ["a", "b"] and form["confirm"] == ["yes"]
    assert status_of(service.store, "a") == "waiting"
    # Somebody else was faster with one of them.
    KitaruClient(service.store).executions.cancel("b")
    done = post(service, "/many", form | {"act": ["cancel"]}).text
    assert "Cancelled 1 of 1 execution<" in done and "It has ended." in done
    assert {status_of(service.store, one) for one in ("a", "b")} == {"cancelled"}
    # The service has no code of executions of this machine.
    begin(service.store, "failing", "d", "tea", module=page_flows)
    for act in ("retry", "replay"):
        refused = post(service, "/many", {"exec_id": "d", "act": act}).text
        assert f"Nothing to {act}" in refused and f"can {act} it" in refused
        assert "confirm" not in refused
    assert "It has not failed." in post(service, "/many", {"exec_id": "a", "act": "retry"}).text
    for wrong in ({"act": "cancel"}, {"exec_id": "a", "act": "delete"}):
        assert post(service, "/many", wrong).status_code == 400
    many = {"exec_id": [f"e{n}" for n in range(201)], "act": "cancel"}
    assert post(service, "/many", many).status_code == 400
    assert (
        service.http.post(
            "/many", data=chosen, headers={"origin": "http://evil.example"}
        ).status_code
        == 403
    )
