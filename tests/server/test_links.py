"""Links with which a person without an account answers one question, and nothing else."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient
from kitaru.errors import NotFound, UsageError
from kitaru.ops import channels
from kitaru.ops.answer import answer
from kitaru.ops.answer_links import AnswerLink, link_for, link_key, make_token, read_token
from kitaru.ops.cancel import cancel
from kitaru.ops.notifications import Notifier
from kitaru.runtime.journal.journal import Journal
from kitaru.server import records
from kitaru.server.guard import LINK
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import ErrorInfo
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now
from tests.notifications.receivers import receiving
from tests.waiting import wait_until

from . import page_flows
from .browser_forms import sent
from .conftest import Running, begin, serving

HTML = {"accept": "text/html"}
SECRET = "a secret of more than 32 characters"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LINK_KEY", SECRET)
    kitaru.configure(link_key="LINK_KEY", service_url="https://kitaru.example.com")
    yield
    kitaru.configure(link_key=None, service_url=None, notify=None)


@pytest.fixture
def closed(store: Store) -> Iterator[Running]:
    """Return a service on which each request needs an account; the client has none."""
    with serving(store, token="an admin's token") as running:
        del running.http.headers["authorization"]
        yield running


def key() -> bytes:
    found = link_key()
    assert found is not None
    return found


def link(store: Store, exec_id: str = "e1", wait: str = "ok", **changes: Any) -> str:
    journal = Journal.open(store, exec_id)
    request = journal.wait_request(wait)
    assert request is not None
    made = read_token(key(), link_for(key(), exec_id, request, 1, to="team", hours=1))
    return f"/answer/{make_token(key(), replace(made, **changes))}"


def ask(store: Store, exec_id: str = "e1") -> None:
    begin(store, "ask", exec_id, "owls", module=page_flows)


def get(running: Running, path: str) -> Any:
    return running.http.get(path, headers=HTML)


def post(running: Running, path: str, fields: dict[str, Any], **headers: str) -> Any:
    given = {"origin": running.url.rstrip("/"), **HTML, **headers}
    return running.http.post(path, data=fields, headers=given)


def filled(html: str, value: str = "0") -> dict[str, Any]:
    """Return the fields of a page's form with the first choice."""
    (fields,) = (one for one in sent(html) if "asked" in one)
    return fields | {"v": [value]}


def test_a_person_without_an_account_answers(closed: Running, store: Store) -> None:
    ask(store)
    path = link(store)
    shown = get(closed, path)
    assert shown.status_code == 200 and "<script" not in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"
    # Nothing else of the service is there, and looking answers nothing.
    assert "store" not in re.sub(r"\S+\.svg", "", shown.text)
    assert not re.findall(r'href="/(?!static/)', shown.text)
    assert store.list(keys.wait_answer("e1", "ok", 1)) == []
    given = post(closed, path, filled(shown.text))
    assert (given.status_code, given.headers["location"]) == (303, f"{path}/done")
    assert "Your answer is recorded." in get(closed, f"{path}/done").text
    (held,) = KitaruClient(store).executions.get("e1").answers
    assert (held.value, held.by) == (True, "link (team)")
    (entry,) = KitaruClient(store).audit(action="answer").items
    assert (entry.by, entry.subject, entry.exec_id, entry.error) == ("link (team)", "ok", "e1", "")
    # It is used up, also for the page that was opened before.
    for response in (get(closed, path), post(closed, path, filled(shown.text, "1"))):
        assert response.status_code == 410
        assert "needs no answer any more" in response.text and "true" not in response.text


def test_a_link_opens_no_other_page(closed: Running, store: Store) -> None:
    ask(store)
    path = link(store)
    token = path.rpartition("/")[2]
    for other in ("/inbox", "/inbox/e1/ok", "/executions/e1", "/api/v1/waits", "/mcp"):
        assert closed.http.get(other).status_code in (303, 401)
        assert closed.http.get(f"{other}?token={token}").status_code in (303, 401)
        bearer = {"authorization": f"Bearer {token}"}
        assert closed.http.get(other, headers=bearer).status_code in (303, 401)
        cookie = {"cookie": f"__Host-kitaru_session={token}; kitaru_session={token}"}
        assert closed.http.get(other, headers=cookie).status_code in (303, 401)
    body = {"value": True}
    answering = "/api/v1/executions/e1/waits/ok/answer"
    assert closed.http.post(answering, json=body).status_code == 401
    for odd in (f"{path}/../../inbox", f"{path}/inbox", "/answer//inbox", "/answer/%2e%2e/inbox"):
        assert closed.http.get(odd).status_code in (303, 401, 404)


def test_a_link_that_was_changed_is_not_valid(closed: Running, store: Store) -> None:
    ask(store)
    ask(store, "e2")
    token = link(store).rpartition("/")[2]
    body, _, signature = token.partition(".")
    other_body = link(store, "e2").rpartition("/")[2].partition(".")[0]
    forged = make_token(b"another key", read_token(key(), token))
    last = "A" if signature[-1] != "A" else "B"
    for wrong in (
        f"{other_body}.{signature}",
        f"{body}.{signature[:-1]}",
        f"{body}.{signature[:-2]}{last}{signature[-1]}",
        f"{body}.",
        f".{signature}",
        body,
        f"{body}=.{signature}",
        f"{token}.{token}",
        forged,
        "x" * 5_000,
        "%00",
        "ü",
    ):
        response = get(closed, f"/answer/{wrong}")
        assert response.status_code == 404, wrong
        assert "This link is not valid." in response.text
        assert post(closed, f"/answer/{wrong}", {"v": ["0"]}).status_code == 404
    assert KitaruClient(store).executions.get("e1").answers == []


def test_no_other_text_of_a_signature_is_accepted() -> None:
    token = make_token(key(), AnswerLink("e1", "ok", 1, later(now(), 60), "team"))
    body, _, signature = token.partition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place in (len(signature) - 1, 0):
        for letter in alphabet:
            changed = signature[:place] + letter + signature[place + 1 :]
            if changed != signature:
                with pytest.raises(NotFound):
                    read_token(key(), f"{body}.{changed}")
    assert base64.urlsafe_b64decode(body + "==")


@pytest.mark.parametrize("how", ["answered", "cancelled", "failed", "rejected", "gone"])
def test_a_link_ends_with_its_question(how: str, closed: Running, store: Store) -> None:
    ask(store)
    path = link(store)
    html = get(closed, path).text
    journal = Journal.open(store, "e1")
    if how == "answered":
        answer(store, "e1", False, runs_here=False)
    elif how == "cancelled":
        cancel(store, "e1")
    elif how == "failed":
        journal.set_state("failed", ErrorInfo("OSError", "disk full"))
    elif how == "rejected":
        answer(store, "e1", False, runs_here=False)
        given = journal.wait_answer("ok")
        assert given is not None
        journal.refuse(given, "Too early.")
    else:
        path = f"/answer/{make_token(key(), AnswerLink('e9', 'ok', 1, later(now(), 60), 'team'))}"
    before = store.list(f"{keys.waits('e1')}")
    for response in (get(closed, path), post(closed, path, filled(html))):
        assert response.status_code == 410
        assert "false" not in response.text
    assert store.list(f"{keys.waits('e1')}") == before
    if how == "rejected":
        shown = get(closed, link(store, number=2))
        assert shown.status_code == 200 and "Too early." in shown.text


def test_a_link_is_for_one_answer_and_one_wait(closed: Running, store: Store) -> None:
    ask(store)
    made = read_token(key(), link(store).rpartition("/")[2])
    for changes in ({"number": 2}, {"number": 0}, {"wait": "other"}, {"exec_id": "e2"}):
        token = make_token(key(), replace(made, **changes))
        assert get(closed, f"/answer/{token}").status_code == 410
    journal = Journal.open(store, "e1")
    answer(store, "e1", True, runs_here=False, number=1)
    given = journal.wait_answer("ok")
    assert given is not None
    journal.refuse(given, "no")
    # Between the check of the link and its answer, the flow has rejected another one.
    with pytest.raises(kitaru.errors.WaitConflict, match="rejected answer 1"):
        answer(store, "e1", True, runs_here=False, number=1)
    assert journal.wait_answer("ok") is None


def test_a_link_expires(closed: Running, store: Store) -> None:
    ask(store)
    shown = get(closed, link(store)).text
    path = link(store, expires=later(now(), -1))
    for response in (get(closed, path), post(closed, path, filled(shown))):
        assert response.status_code == 410 and "has expired" in response.text
    journal = Journal.open(store, "e1")
    asked = journal.wait_request("ok")
    assert asked is not None
    short = replace(asked, deadline=later(now(), 60))
    made = read_token(key(), link_for(key(), "e1", short, 1, to="team", hours=72))
    assert made.expires == short.deadline


def test_forms_of_other_sites_answer_nothing(closed: Running, store: Store) -> None:
    ask(store)
    path = link(store)
    fields = filled(get(closed, path).text)
    foreign = {"origin": "https://evil.example", **HTML}
    for headers in (foreign, HTML, {**HTML, "origin": "null"}):
        response = closed.http.post(path, data=fields, headers=headers)
        assert response.status_code in (403, 415)
    cross = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert post(closed, path, fields, **cross).status_code == 403
    # A person follows the link in a mail.
    opened = {**HTML, **cross, "sec-fetch-dest": "document"}
    assert closed.http.get(path, headers=opened).status_code == 200
    # The form is not that of the question.
    assert post(closed, path, {**fields, "asked": ["x"]}).status_code == 409
    assert post(closed, path, {**fields, "act": ["abort"], "v": []}).status_code == 422
    assert KitaruClient(store).executions.get("e1").answers == []


def test_logs_contain_no_link(
    closed: Running,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(store)
    path = link(store)
    # A logger of its own: another test of this process may have configured logging.
    logger = logging.Logger("kitaru.server", logging.INFO)
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(records, "logger", logger)
    get(closed, path)
    # A request is logged after its response.
    wait_until(lambda: caplog.records)
    logged = [getattr(one, "fields", {}) or vars(one) for one in caplog.records]
    assert LINK in str(logged) and path not in str(logged)


def test_without_the_setting_there_are_no_links(closed: Running, store: Store) -> None:
    ask(store)
    path = link(store)
    kitaru.configure(link_key=None)
    response = get(closed, path)
    assert response.status_code == 404 and "has no links" in response.text
    table = {"kind": "slack", "url_secret": "A", "answer_links": True}
    kitaru.configure(notify={"team": table})
    with pytest.raises(UsageError, match="needs the settings link_key"):
        channels.channels()


def test_a_secret_that_is_too_short(
    closed: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    path = link(store)
    monkeypatch.setenv("LINK_KEY", "short")
    with pytest.raises(UsageError, match="missing or shorter"):
        link_key()
    response = get(closed, path)
    # How the service is set up concerns nobody else.
    assert response.status_code >= 400 and "LINK_KEY" not in response.text


def test_a_channel_gets_the_link(
    closed: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    with receiving() as receiver:
        monkeypatch.setenv("SLACK_URL", receiver.url)
        table = {"kind": "slack", "url_secret": "SLACK_URL", "answer_links": True, "link_hours": 2}
        kitaru.configure(notify={"team": table})
        assert Notifier(store, channels.channels()).look() == 1
    (button,) = receiver.requests[0].document["blocks"][-1]["elements"]
    base, _, token = button["url"].rpartition("/")
    assert base == "https://kitaru.example.com/answer"
    made = read_token(key(), token)
    assert (made.exec_id, made.wait, made.number, made.to) == ("e1", "ok", 1, "team")
    assert later(now(), 7_000) < made.expires <= later(now(), timedelta(hours=2).total_seconds())
    assert get(closed, f"/answer/{token}").status_code == 200


def test_a_service_whose_store_fails_shows_nothing_of_it(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'kitaru.db'}")
    ask(store)
    path = link(store)
    store.delete(keys.execution("e1"))
    store.create(keys.execution("e1"), b"damaged")
    with serving(store, token="t") as running:
        response = running.http.get(path)
        assert response.status_code >= 500
        assert str(tmp_path) not in response.text and "<nav" not in response.text
