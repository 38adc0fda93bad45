"""Notifications: what is sent, when, how often, and what a hostile text can do in it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

import kitaru
from kitaru import KitaruClient, config, flow
from kitaru.errors import NotFound, UsageError
from kitaru.ops import channels, notifications
from kitaru.ops.answer import answer
from kitaru.ops.dispatch import Dispatcher
from kitaru.ops.notifications import Notifier, Sent
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import ErrorInfo, NoticeRecord
from kitaru.wire.times import later, now
from tests.notifications.receivers import Mailbox, Receiver, mailing, receiving
from tests.server.conftest import begin, serving
from tests.waiting import wait_until

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
# Headers of an answer that never ends; a client reads 100 at most.
MANY = 90
HOSTILE = (
    "<!channel> *Pay* [now](https://evil.example)\r\nBcc: all@example.com\n\x1b[2K\u202e{{DATE()}}"
)


@flow
def review(topic: str) -> bool:
    return kitaru.wait(name="approve", question=topic, schema=bool)


@flow
def urgent(topic: str) -> bool:
    return kitaru.wait(
        name="approve",
        question=topic,
        schema=bool,
        deadline=timedelta(days=2),
        default=False,
        escalate=[(timedelta(microseconds=1), "boss")],
    )


@flow
def failing(topic: str) -> str:
    raise ValueError(topic)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_KEY", KEY)
    monkeypatch.setattr(notifications, "_FIRST_PAUSE", 0.0)
    return open_store(f"sqlite:{tmp_path / 'kitaru.db'}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailing() as found:
        yield found


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    yield
    kitaru.configure(notify=None, service_url=None)


def hook(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "url": receiver.url, "signing_secret": "HOOK_KEY", **more}


def notifier(store: Store, tables: dict[str, Any], **options: Any) -> Notifier:
    """Return a notifier with channels, as a new process has it."""
    kitaru.configure(notify=tables, service_url="https://kitaru.example.com")
    return Notifier(store, channels.channels(), **options)


def ask(store: Store, exec_id: str = "e1", topic: str = "Send it?", name: str = "review") -> str:
    return begin(store, name, exec_id, topic, module=sys.modules[__name__])


def test_a_question_is_sent_once_signed_and_with_its_link(store: Store, receiver: Receiver) -> None:
    ask(store)
    sent = list[Sent]()
    assert notifier(store, {"hooks": hook(receiver)}, report=sent.append).look() == 1
    (request,) = receiver.requests
    # The reference implementation checks key, id, time and body.
    document = Webhook(KEY).verify(request.body, request.headers)
    assert document["type"] == "execution.waiting"
    data = document["data"]
    assert data["link"] == "https://kitaru.example.com/inbox/e1/approve"
    assert (data["exec_id"], data["flow"], data["wait"]) == ("e1", "review", "approve")
    assert (data["question"], data["schema"]) == ("Send it?", {"type": "boolean"})
    assert sent == [Sent("e1", "waiting", "hooks", "delivered")]
    assert store.list(keys.NEWS) == []
    # Without its hint, and with one that another process has left behind.
    again = notifier(store, {"hooks": hook(receiver)})
    assert again.look() == 0
    store.create(keys.news_asked("e1", "approve", 1), now().encode())
    assert again.look() == 0
    assert store.list(keys.NEWS) == []
    assert len(receiver.requests) == 1
    (shown,) = KitaruClient(store).notifications.list("e1")
    assert (shown.status, shown.tries, shown.error) == ("delivered", 1, "")


def test_what_is_not_true_any_more_is_not_sent(store: Store, receiver: Receiver) -> None:
    ask(store)
    hint = keys.news_asked("e1", "approve", 1)
    assert store.list(keys.NEWS) == [hint]
    answer(store, "e1", True, runs_here=False)
    assert store.list(keys.NEWS) == []
    ask(store, "e2", name="failing")
    journal = Journal.open(store, "e2")
    failed = keys.news_failed("e2", journal.state().number)
    assert store.list(keys.NEWS) == [failed]
    journal.set_state("running")
    # The hint of the answered wait was left behind by a process without the right to delete.
    store.create(hint, now().encode())
    old = keys.news_failed("e3", 1)
    store.create(old, later(now(), -4 * 24 * 3_600).encode())
    # Its writer was killed before it wrote the question.
    early = keys.news_asked("e4", "approve", 1)
    store.create(early, now().encode())
    assert notifier(store, {"hooks": hook(receiver)}).look() == 0
    assert store.list(keys.NEWS) == [early]
    assert receiver.requests == []


def test_a_hint_precedes_a_question_and_a_failure(store: Store) -> None:
    written = list[str]()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def create(self, key: str, value: bytes) -> bool:
            written.append(key)
            return store.create(key, value)

        def create_all(self, objects: Any) -> list[bool]:
            written.extend(key for key, _ in objects)
            return store.create_all(objects)

    ask(Watched())  # type: ignore[arg-type]
    ask(Watched(), "e2", name="failing")  # type: ignore[arg-type]
    for hint, truth in (
        (keys.news_asked("e1", "approve", 1), keys.wait_request("e1", "approve")),
        (keys.news_failed("e2", 2), keys.state("e2", 2)),
    ):
        assert written.index(hint) < written.index(truth)


def test_failures_of_a_receiver_are_tried_again(store: Store, receiver: Receiver) -> None:
    ask(store)
    receiver.answers += [(500, {}), (404, {}), (301, {"location": f"{receiver.url}/elsewhere"})]
    made = notifier(store, {"hooks": hook(receiver)})
    tries = [made.look() for _ in range(4)]
    assert tries == [1, 1, 1, 1]
    assert {one.path for one in receiver.requests} == {"/"}
    ids = {one.headers["webhook-id"] for one in receiver.requests}
    assert len(ids) == 1
    failed = [key for key in store.list(keys.notices("e1")) if "/failed/" in key]
    reasons = [one.reason for one in RecordStore(store).read_all(NoticeRecord, failed)]
    assert reasons[:2] == ["HTTP status 500", "HTTP status 404"]
    assert reasons[2] == "HTTP status 301: redirects are not followed"
    assert [one.status for one in KitaruClient(store).notifications.list("e1")] == ["delivered"]


def test_a_receiver_that_is_busy_gets_nothing_until_it_may(
    store: Store, receiver: Receiver
) -> None:
    ask(store, "e1")
    ask(store, "e2")
    receiver.answers.append((429, {"retry-after": "120"}))
    tables = {"hooks": hook(receiver)}
    made = notifier(store, tables)
    assert made.look() == 1
    assert made.look() == 0
    assert len(receiver.requests) == 1
    pending = KitaruClient(store).notifications.list()
    assert [(one.exec_id, one.tries, one.error) for one in pending] == [
        ("e1", 1, "HTTP status 429"),
        ("e2", 0, ""),
    ]
    # Another process does not know that the receiver is busy, but when the first message is due.
    assert notifier(store, tables).look() == 1
    assert [one.document["data"]["exec_id"] for one in receiver.requests] == ["e1", "e2"]


def test_a_receiver_that_does_not_answer(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    monkeypatch.setattr(channels, "_SECONDS", 0.2)
    silent = threading.Event()
    receiver.before = lambda: silent.wait(60)
    sent = list[Sent]()
    made = notifier(store, {"hooks": hook(receiver)}, report=sent.append)
    assert made.look() == 1
    silent.set()
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    gone = {"hooks": hook(receiver, url=f"http://127.0.0.1:{port}")}
    assert notifier(store, gone, report=sent.append).look() == 1
    assert [one.status for one in sent] == ["failed", "failed"]
    assert "timed out" in sent[0].error and "refused" in sent[1].error


def test_a_receiver_that_never_ends_its_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    monkeypatch.setattr(channels, "_ALL_SECONDS", 0.3)
    sent = list[Sent]()

    def drip(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer, suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(MANY):
                peer.sendall(b"x: y\r\n")
                time.sleep(0.02)

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        table = {"kind": "webhook", "url": url, "signing_secret": "HOOK_KEY"}
        assert notifier(store, {"hooks": table}, report=sent.append).look() == 1
        thread.join()
    assert [one.status for one in sent] == ["failed"]


def test_after_many_tries_it_is_given_up(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    monkeypatch.setattr(notifications, "MOST_TRIES", 2)
    receiver.answers += [(400, {})] * 3
    sent = list[Sent]()
    made = notifier(store, {"hooks": hook(receiver)}, report=sent.append)
    assert [made.look() for _ in range(3)] == [1, 1, 0]
    assert [one.status for one in sent] == ["failed", "given up"]
    assert store.list(keys.NEWS) == []
    (shown,) = KitaruClient(store).notifications.list("e1")
    assert (shown.status, shown.tries, shown.error) == ("given up", 2, "HTTP status 400")


def test_many_dispatchers_send_once(store: Store, receiver: Receiver) -> None:
    for number in range(3):
        ask(store, f"e{number}")
    made = [notifier(store, {"hooks": hook(receiver)}) for _ in range(4)]
    threads = [threading.Thread(target=one.look) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.document["data"]["exec_id"] for one in receiver.requests) == [
        "e0", "e1", "e2",
    ]  # fmt: skip
    for one in made:
        one.look()
    assert len(receiver.requests) == 3


def test_a_dispatcher_killed_between_sending_and_recording(
    store: Store, receiver: Receiver, tmp_path: Path
) -> None:
    ask(store)
    tables = {"hooks": hook(receiver)}
    environment = {**os.environ, "KITARU_NOTIFY": json.dumps(tables)}
    command = [sys.executable, "-m", "kitaru", "dispatcher", "run", "--once", "--store", store.url]
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
        receiver.before = lambda: os.kill(process.pid, signal.SIGKILL)
        assert process.wait(240) == -signal.SIGKILL
    receiver.before = lambda: None
    # The message was accepted, and nobody knows. For a minute, its process may be at work.
    assert notifier(store, tables).look() == 0
    assert notifier(store, tables, claim_seconds=0.0).look() == 1
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    (shown,) = KitaruClient(store).notifications.list("e1")
    assert (shown.status, shown.tries) == ("delivered", 2)


def test_slack_interprets_no_text_of_a_flow(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store, topic=HOSTILE)
    monkeypatch.setenv("SLACK_URL", f"{receiver.url}/services/T/B/x")
    assert notifier(store, {"team": {"kind": "slack", "url_secret": "SLACK_URL"}}).look() == 1
    (request,) = receiver.requests
    assert request.path == "/services/T/B/x"
    document = request.document
    assert document["text"] == "Kitaru: waiting"
    texts = [block["text"] for block in document["blocks"] if "text" in block]
    assert {one["type"] for one in texts} == {"plain_text"} and not any(e["emoji"] for e in texts)
    assert len(texts[0]["text"]) <= 150 and all(len(one["text"]) <= 3_000 for one in texts)
    assert "\\x1b[2K\\u202e" in texts[1]["text"] and "\x1b" not in request.body.decode()
    (button,) = document["blocks"][-1]["elements"]
    assert (button["type"], button["text"]["text"]) == ("button", "Answer")
    assert button["url"] == "https://kitaru.example.com/inbox/e1/approve"


def test_teams_interprets_no_text_of_a_flow(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store, topic=HOSTILE, name="failing")
    monkeypatch.setenv("TEAMS_URL", f"{receiver.url}/workflows/x?sig=y")
    assert notifier(store, {"team": {"kind": "teams", "url_secret": "TEAMS_URL"}}).look() == 1
    (request,) = receiver.requests
    assert request.path == "/workflows/x?sig=y"
    (attached,) = request.document["attachments"]
    assert attached["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attached["content"]
    runs = [run for block in card["body"] for run in block["inlines"]]
    assert {one["type"] for one in card["body"]} == {"RichTextBlock"}
    assert {one["type"] for one in runs} == {"TextRun"}
    assert runs[0]["text"] == "failing failed" and runs[1]["text"].startswith("ValueError: <!chan")
    assert "{{" not in request.body.decode() and "\\u202e" not in json.dumps(card).replace(
        "\\\\", ""
    )
    assert card["actions"][0]["url"] == "https://kitaru.example.com/executions/e1"


def mail_table(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    return {
        "kind": "email",
        "url": f"smtp://{mailbox.host}",
        "from": "Kitaru <kitaru@example.com>",
        "to": ["team@example.com", "Ute Ü <ute@example.com>"],
        **more,
    }


def test_a_mail_has_no_header_of_a_flow(store: Store, mailbox: Mailbox) -> None:
    ask(store, topic=HOSTILE)
    mailbox.refusals.append("451 try later")
    made = notifier(store, {"mail": mail_table(mailbox)})
    assert [made.look(), made.look()] == [1, 1]
    (mail,) = mailbox.mails
    assert mailbox.recipients == [["team@example.com", "ute@example.com"]]
    assert mail["Subject"] == "review waits for an answer"
    assert "Bcc" not in mail and mail["Message-ID"].endswith("@example.com>")
    text = mail.get_content()
    assert "https://kitaru.example.com/inbox/e1/approve" in text
    assert "\nBcc: all@example.com" in text and "\x1b" not in text and "\u202e" not in text
    errors = [key for key in store.list(keys.notices("e1")) if "/failed/" in key]
    assert "SMTP status 451" in (store.get(errors[0]) or b"").decode()


def test_a_mail_server_with_a_login(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "right horse")
    with mailing("me@example.com", "right horse") as mailbox:
        url = f"smtp://me%40example.com@{mailbox.host}"
        table = mail_table(mailbox, url=url, password_secret="MAIL_PASSWORD")
        kitaru.configure(notify={"mail": table})
        assert notifications.send_test("mail").status == "delivered"
        monkeypatch.setenv("MAIL_PASSWORD", "wrong horse")
        sent = notifications.send_test("mail")
        assert (sent.status, sent.error) == ("failed", "SMTP status 535")
    assert len(mailbox.mails) == 1


def test_channels_choose_events_and_flows(store: Store, receiver: Receiver) -> None:
    ask(store, "e1")
    ask(store, "e2", name="failing")
    tables = {
        "all": hook(receiver, url=f"{receiver.url}/all"),
        "failures": hook(receiver, url=f"{receiver.url}/failures", on=["failed"]),
        "others": hook(receiver, url=f"{receiver.url}/others", flows=["billing-*"]),
    }
    assert notifier(store, tables).look() == 3
    found = sorted((one.path, one.document["type"]) for one in receiver.requests)
    assert found == [
        ("/all", "execution.failed"),
        ("/all", "execution.waiting"),
        ("/failures", "execution.failed"),
    ]
    (failure,) = [one.document for one in receiver.requests if one.path == "/failures"]
    assert failure["data"]["error"]["type"].endswith("ValueError")
    assert store.list(keys.NEWS) == []


def test_an_escalation_goes_to_the_channel_that_it_names(store: Store, receiver: Receiver) -> None:
    ask(store, name="urgent")
    tables = {
        "boss": hook(receiver, url=f"{receiver.url}/boss", on=[]),
        "team": hook(receiver, url=f"{receiver.url}/team"),
    }
    made = notifier(store, tables)
    assert made.look() == 1
    journal = Journal.open(store, "e1")
    request = journal.wait_request("approve")
    assert request is not None
    journal.escalate_due(request)
    assert made.look() == 1
    assert [one.path for one in receiver.requests] == ["/team", "/boss"]
    data = receiver.requests[1].document["data"]
    assert data["escalated_to"] == "boss"
    assert data["title"] == "urgent still waits for an answer (boss)"


def test_a_rejected_answer_is_news(store: Store, receiver: Receiver) -> None:
    ask(store)
    made = notifier(store, {"hooks": hook(receiver)})
    assert made.look() == 1
    journal = Journal.open(store, "e1")
    answer(store, "e1", True, runs_here=False)
    given = journal.wait_answer("approve")
    assert given is not None
    journal.refuse(given, "Too early.")
    assert made.look() == 1
    assert receiver.requests[1].document["data"]["refused"] == "Too early."


def test_a_dispatcher_without_channels_leaves_hints_to_others(store: Store) -> None:
    ask(store)
    kitaru.configure(notify=None)
    assert Dispatcher(store).once() == []
    assert len(store.list(keys.NEWS)) == 1
    assert [one.status for one in KitaruClient(store).notifications.list()] == ["pending"]


def test_a_running_dispatcher_sends(store: Store, receiver: Receiver) -> None:
    notifier(store, {"hooks": hook(receiver)})
    dispatcher = Dispatcher(store)
    thread = threading.Thread(target=dispatcher.run)
    thread.start()
    try:
        ask(store)
        wait_until(lambda: not store.list(keys.NEWS))
    finally:
        dispatcher.stop()
        thread.join()
    assert len(receiver.requests) == 1


def test_a_state_that_cannot_be_read_stops_no_other_message(
    store: Store, receiver: Receiver
) -> None:
    ask(store, "e2")
    store.create(keys.execution("e1"), b"damaged")
    store.create(keys.news_failed("e1", 2), now().encode())
    sent = list[Sent]()
    assert notifier(store, {"hooks": hook(receiver)}, report=sent.append).look() == 1
    assert {one.status for one in sent} == {"failed", "delivered"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "pigeon"}, "kind is 'pigeon'"),
        ({"kind": "slack"}, "url_secret is missing"),
        ({"kind": "slack", "url_secret": "A", "to": ["a@b.c"]}, "to does not apply to slack"),
        ({"kind": "slack", "url_secret": "A", "on": ["lunch"]}, "on contains"),
        ({"kind": "slack", "url_secret": "A", "flows": "review"}, "lists of strings"),
        ({"kind": "webhook", "signing_secret": "A"}, "either url or url_secret"),
        ({"kind": "webhook", "signing_secret": "A", "url": "file:///etc/passwd"}, "no valid url"),
        ({"kind": "webhook", "signing_secret": "A", "url": "https://a b/"}, "no valid url"),
        ({"kind": "webhook", "signing_secret": "A", "url": "https://u:p@h/"}, "password"),
        ({"kind": "email", "url": "smtp://h", "from": "a@b.c"}, "to is missing"),
        ({"kind": "email", "url": "smtp://h", "from": "a@b.c", "to": ["x\nBcc: y@z"]}, "address"),
        ({"kind": "email", "url": "smtp://h", "from": "a@b.c", "to": ["a@b.c, d@e.f"]}, "address"),
        ({"kind": "email", "url": "http://h", "from": "a@b.c", "to": ["a@b.c"]}, "mail server"),
        ({"kind": "email", "url": "smtp://u@h", "from": "a@b.c", "to": ["a@b.c"]}, "password_sec"),
    ],
)
def test_channels_that_are_not_valid(table: dict[str, Any], message: str) -> None:
    kitaru.configure(notify={"one": table})
    with pytest.raises(UsageError, match=message):
        channels.channels()


def test_secrets_are_checked_and_never_shown(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitaru.configure(
        notify={
            "hooks": hook(receiver),
            "team": {"kind": "slack", "url_secret": "SLACK_URL"},
        }
    )
    shown = KitaruClient(store).notifications
    assert [one.place for one in shown.channels()] == ["http://127.0.0.1", "secret SLACK_URL"]
    monkeypatch.setenv("HOOK_KEY", "whsec_short")
    with pytest.raises(UsageError, match="not base64 of 24 to 64 bytes"):
        shown.test("hooks")
    with pytest.raises(UsageError, match="needs the secret SLACK_URL"):
        shown.test("team")
    monkeypatch.setenv("SLACK_URL", "http://hooks.example.com/T/B/x")
    with pytest.raises(UsageError, match="without encryption") as raised:
        shown.test("team")
    assert "T/B/x" not in str(raised.value)
    with pytest.raises(NotFound, match="no channel 'hoks'"):
        shown.test("hoks")


def test_channels_of_layers_are_merged(store: Store, tmp_path: Path) -> None:
    text = """
    [tool.kitaru.notify.hooks]
    kind = "webhook"
    url = "https://hooks.example.com/"
    signing_secret = "HOOK_KEY"
    """
    (tmp_path / "pyproject.toml").write_text(text)
    kitaru.configure(notify={"team": {"kind": "slack", "url_secret": "A"}})
    assert [*config.channels()] == ["hooks", "team"]


def test_the_service_sends_a_test(store: Store, receiver: Receiver) -> None:
    ask(store)
    notifier(store, {"hooks": hook(receiver)})
    with serving(store) as service:
        client = KitaruClient(service.url)
        assert client.notifications.channels() == KitaruClient(store).notifications.channels()
        assert client.notifications.test("hooks") == Sent("", "test", "hooks", "delivered")
        assert client.notifications.list("e1") == KitaruClient(store).notifications.list("e1")
        with pytest.raises(NotFound):
            client.notifications.list("absent")
    assert Webhook(KEY).verify(receiver.requests[0].body, receiver.requests[0].headers) == {
        "type": "test",
        "timestamp": receiver.requests[0].document["timestamp"],
        "data": {
            "channel": "hooks",
            "link": "https://kitaru.example.com",
            "title": "A test of Kitaru",
        },
    }


def test_a_failure_without_an_error_is_told(store: Store, receiver: Receiver) -> None:
    ask(store)
    Journal.open(store, "e1").set_state("failed", ErrorInfo("builtins.OSError", "disk\nfull"))
    assert notifier(store, {"hooks": hook(receiver)}).look() == 1
    assert receiver.requests[0].document["data"]["error"]["message"] == "disk\nfull"
