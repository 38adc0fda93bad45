"""Signed events of GitHub, Stripe, Slack, Standard Webhooks and others, over a real connection.

The signatures of the first test are those that the services publish.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kitaru import KitaruClient
from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.ops import sources
from kitaru.ops.channels import signed
from kitaru.ops.sources import SignatureRefused, receive
from kitaru.server.app import make_app
from kitaru.stores import open_store
from kitaru.stores.base import Store

from .conftest import API, Running, problem, serving

_KEYS = {
    "github": "It's a Secret to Everybody",
    "stripe": "whsec_test_secret",
    "slack": "8f742231b10e8888abcd99yyyzzz85a5",
    "standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "hmac": "shared",
}
_TABLES = {kind: {"kind": kind, "secret": f"{kind.upper()}_KEY"} for kind in _KEYS}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_SOURCES", json.dumps(_TABLES))
    for kind, key in _KEYS.items():
        monkeypatch.setenv(f"{kind.upper()}_KEY", key)


def _hex(key: str, content: str) -> str:
    return hmac.new(key.encode(), content.encode(), hashlib.sha256).hexdigest()


def _headers(kind: str, body: str, at: float, id: str = "d1") -> dict[str, str]:
    """Return the headers that a service sends with a body that it signs at a time."""
    key, moment = _KEYS[kind], str(int(at))
    match kind:
        case "github":
            named = {"x-github-event": "issues", "x-github-delivery": id}
            return {"x-hub-signature-256": f"sha256={_hex(key, body)}", **named}
        case "stripe":
            sent = f"t={moment},v1={_hex(key, f'{moment}.{body}')},v0=00"
            return {"stripe-signature": sent}
        case "slack":
            sent = f"v0={_hex(key, f'v0:{moment}:{body}')}"
            return {"x-slack-signature": sent, "x-slack-request-timestamp": moment}
        case "standard":
            return signed(key, id, body.encode(), int(at))
        case _:
            return {"x-signature": _hex(key, body)}


# What each sends, and the event that it becomes.
_SENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "github": ({"action": "opened"}, "github.issues", "d1"),
    "stripe": ({"id": "evt_1", "type": "invoice.paid", "data": {}}, "stripe.invoice.paid", "evt_1"),
    "slack": (
        {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "text": "hi"}},
        "slack.message", "Ev1",
    ),
    "standard": ({"type": "user.created", "data": {"id": 1}}, "standard.user.created", "d1"),
    "hmac": ({"type": "paid", "id": 7}, "hmac.paid", "7"),
}  # fmt: skip
_TIMED = ("stripe", "slack", "standard")


# Published: body, headers and time. That of Stripe is what its SDK computes.
_SLACK = (
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    "response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIG"
    "lgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
_PUBLISHED: dict[str, tuple[str, dict[str, str], float]] = {
    "github": (
        "Hello, World!",
        {
            "x-hub-signature-256": "sha256="
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        },
        0.0,
    ),
    "stripe": (
        "{}",
        {
            "stripe-signature": "t=1700000000,v1="
            "ceb8863f7208fa249a6cd8f951e993c7563412aca65866f6272283debe143ab3"
        },
        1700000000.0,
    ),
    "slack": (
        _SLACK,
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0="
            "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        1531420618.0,
    ),
    "standard": (
        '{"test": 2432232314}',
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        1614265330.0,
    ),
}


@pytest.mark.parametrize("kind", _PUBLISHED)
def test_published_signatures_are_accepted(kind: str) -> None:
    body, headers, at = _PUBLISHED[kind]
    # The signature is valid, and the body is no event.
    with pytest.raises(UsageError, match=r"is not JSON|does not name the type"):
        receive(kind, headers, body.encode(), at)
    for changed in (body + " ", ""):
        with pytest.raises(SignatureRefused, match="is wrong"):
            receive(kind, headers, changed.encode(), at)
    for name in headers:
        if name != "webhook-id":
            with pytest.raises(SignatureRefused):
                receive(kind, {**headers, name: headers[name][:-1] + "\xe9"}, body.encode(), at)
        with pytest.raises(SignatureRefused, match="has no header"):
            receive(kind, {one: v for one, v in headers.items() if one != name}, body.encode(), at)


@pytest.mark.parametrize("kind", _TIMED)
def test_an_old_request_is_refused(kind: str) -> None:
    body, name, _ = _SENT[kind]
    sent = json.dumps(body)
    headers = _headers(kind, sent, 1000.0)
    for at in (700.0, 1300.0):
        assert receive(kind, headers, sent.encode(), at).name == name
    for at in (699.0, 1301.0):
        with pytest.raises(SignatureRefused, match="more than 300 seconds"):
            receive(kind, headers, sent.encode(), at)


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    with serving(store, token="a-token-of-the-test-0123456789") as running:
        # A source sends no token.
        running.http.headers.pop("authorization")
        yield running


def test_each_source_sends_its_events(service: Running) -> None:
    client = KitaruClient(service.store)

    def post(source: str, body: str, headers: dict[str, str]) -> Any:
        sent = {"content-type": "application/json", **headers}
        return service.http.post(f"{API}/events/{source}", content=body, headers=sent)

    for kind, (data, name, id) in _SENT.items():
        # Not the bytes that a JSON library would write.
        body = json.dumps(data, indent=3)
        headers = _headers(kind, body, time.time())
        for _ in range(2):
            response = post(kind, body, headers)
            assert (response.status_code, response.json()["id"]) == (201, id), response.text
        event = client.events.get(name, id)
        assert (event.data, event.by) == (data, f"source {kind}")
        found = problem(post(kind, body, {}), 403, "SignatureRefused")
        assert "has no header" in found["detail"]
        problem(post(kind, body + " ", headers), 403, "SignatureRefused")
        assert len(client.events.list(name)) == 1
    challenge = json.dumps({"type": "url_verification", "challenge": "c1"})
    answer = post("slack", challenge, _headers("slack", challenge, time.time()))
    assert (answer.status_code, answer.json()) == (200, {"challenge": "c1"})
    # A body without an id is one event.
    plain = '{"type": "plain"}'
    ids = {post("hmac", plain, _headers("hmac", plain, 0)).json()["id"] for _ in range(2)}
    assert ids == {hashlib.sha256(plain.encode()).hexdigest()}
    problem(post("hmac", "[1]", _headers("hmac", "[1]", 0)), 400, "UsageError")
    large = json.dumps({"type": "x", "id": "y", "data": "z" * 300_000})
    problem(post("hmac", large, _headers("hmac", large, 0)), 400, "UsageError")
    problem(post("nobody", plain, {}), 404, "NotFound")
    # Other paths need a token as before.
    problem(service.http.post(f"{API}/events", json={"name": "a", "data": 1}), 401, "TokenRequired")
    problem(service.http.get(f"{API}/events/github"), 401, "TokenRequired")
    problem(post("a/b", plain, {}), 401, "TokenRequired")


def test_a_source_without_its_secret_receives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_KEY")
    with pytest.raises(EnvironmentFailure, match="The secret of the source github is not set"):
        receive("github", _headers("github", "{}", 0), b"{}")
    monkeypatch.setenv("STANDARD_KEY", "short")
    headers = {"webhook-id": "a", "webhook-timestamp": "5", "webhook-signature": "v1,a"}
    with pytest.raises(EnvironmentFailure, match="not base64 of 24 to 64 bytes"):
        receive("standard", headers, b"{}", 5.0)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "gitlab", "secret": "K"}, "kind is 'gitlab'"),
        ({"kind": "github"}, "secret is missing"),
        ({"kind": "github", "secret": "not a name"}, "cannot be the name of a secret"),
        ({"kind": "stripe", "secret": "K", "header": "x"}, "header does not apply to stripe"),
        ({"kind": "hmac", "secret": "K", "type_at": 3}, "all values are strings"),
    ],
)
def test_settings_are_checked(
    monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("KITARU_SOURCES", json.dumps({"one": table}))
    with pytest.raises(UsageError, match=said):
        make_app(open_store("memory:sources"))
    monkeypatch.setenv("KITARU_SOURCES", json.dumps({"kitaru": {"kind": "hmac", "secret": "K"}}))
    with pytest.raises(UsageError, match=r"begin with kitaru\."):
        sources.sources()
