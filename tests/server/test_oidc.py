"""Log in with OpenID Connect, at a real provider on loopback."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kitaru import KitaruClient
from kitaru.errors import UsageError
from kitaru.stores.base import Store

from .conftest import API, Running, begin, good, serving
from .test_pages import HTML, post

httpx = pytest.importorskip("httpx")
pytest.importorskip("authlib")

HERE = Path(__file__).parent / "oidc"
ENVIRONMENT = Path(__file__).parents[2] / ".envs" / "oidc"
ROLES = {"approvers": "approver of review", "operators": "operator"}

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (ENVIRONMENT / "node_modules").is_dir(),
    reason="npm has installed no provider: python3 dev.py test",
)


@contextmanager
def running(store: Store, client: str = "public", **options: Any) -> Iterator[Running]:
    """Serve a store, with a provider that knows the client."""
    process = subprocess.Popen(
        ["node", str(HERE / "provider.mjs"), str(ENVIRONMENT)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        port = int(process.stdout.readline())
        oidc = {
            "issuer": f"http://localhost:{port}", "client_id": client,
            "scopes": "openid email groups", "title": "Example",
        }  # fmt: skip
        if client == "confidential":
            oidc["client_secret"] = "a secret of the client"
        with serving(store, oidc=oidc, oidc_roles=ROLES) as service:
            given = {"redirect": f"{service.url}/login/callback", "all": options.get("all", False)}
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            yield service
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    with running(store) as found:
        yield found


class Browser:
    """A browser with cookies, which fills in the forms of the provider."""

    def __init__(self, service: Running) -> None:
        self.service = service
        self.http = httpx.Client(timeout=60)
        weakref.finalize(self, self.http.close)

    def ask(self, to: str = "/executions") -> str:
        """Begin to log in; return the address of the provider."""
        begun = self.http.get(f"{self.service.url}/login/provider", params={"to": to})
        assert begun.status_code == 303, begun.text
        return str(begun.headers["location"])

    def answer(self, address: str, name: str) -> str:
        """Log in at the provider as `name`; return the address of the callback."""
        for _ in range(20):
            if address.startswith(self.service.url):
                return address
            shown = self.http.get(address)
            if shown.status_code == 200:
                [action] = re.findall(r'<form[^>]* action="([^"]+)"', shown.text)
                [prompt] = re.findall(r'name="prompt" value="(\w+)"', shown.text)
                fields = {"prompt": prompt, "login": name, "password": "any"}
                shown = self.http.post(action, data=fields)
            assert shown.status_code in (302, 303), shown.text
            address = str(httpx.URL(address).join(shown.headers["location"]))
        raise AssertionError(f"the provider asks again and again: {address}")

    def log_in(self, name: str, to: str = "/executions") -> Any:
        """Return the response of the service after logging in as `name`."""
        return self.http.get(self.answer(self.ask(to), name), headers=HTML)


@pytest.mark.parametrize(("client", "all"), [("public", False), ("confidential", True)])
def test_a_person_logs_in_with_the_roles_of_the_groups(
    store: Store, client: str, all: bool
) -> None:
    begin(store, "review", "waits-1", "tea")
    begin(store, "plain", "done-1", "owls")
    with running(store, client, all=all) as service:
        asked = service.http.get("/login?to=%2Finbox", headers=HTML)
        assert 'href="/login/provider?to=/inbox"' in asked.text and "Example" in asked.text
        maria = Browser(service)
        done = maria.log_in("maria", "/inbox?flow=review")
        assert (done.status_code, done.headers["location"]) == (303, "/inbox?flow=review")
        cookies = done.headers.get_list("set-cookie")
        assert any("kitaru_login=; Max-Age=0" in one for one in cookies)
        assert "HttpOnly; SameSite=Lax" in cookies[0]
        html = maria.http.get(f"{service.url}/executions", headers=HTML).text
        assert "maria@example.com (maria)" in html and "waits-1" in html and "done-1" not in html
        sent = maria.http.post(
            f"{service.url}{API}/executions/waits-1/waits/ok/answer", json={"value": True}
        )
        good(sent)
        refused = maria.http.post(f"{service.url}{API}/executions/waits-1/cancel")
        assert refused.status_code == 403
    [given] = KitaruClient(store).executions.get("waits-1").answers
    assert given.by == "maria@example.com (maria)"
    [entry] = KitaruClient(store).audit(by="maria").items
    assert (entry.action, entry.exec_id) == ("answer", "waits-1")


def test_a_person_without_a_role_is_refused(service: Running) -> None:
    for name in ("guest", "nobody"):
        done = Browser(service).log_in(name)
        assert done.status_code == 403 and "no group that has a role" in done.text
        assert "kitaru_session" not in str(done.headers.get_list("set-cookie"))


def test_the_request_has_pkce_state_and_nonce(service: Running) -> None:
    first, second = (parse_qs(urlsplit(Browser(service).ask()).query) for _ in range(2))
    assert first["response_type"] == ["code"] and first["code_challenge_method"] == ["S256"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 20 and first[name] != second[name]


Change = Callable[[Browser, str], str]


def _as(browser: Browser, **changed: Any) -> None:
    """Change the attempt in the browser's cookie."""
    held = browser.http.cookies["kitaru_login"]
    session, to = json.loads(base64.urlsafe_b64decode(held))
    [data] = [one["data"] for one in session.values()]
    data.update(changed)
    text = base64.urlsafe_b64encode(json.dumps([session, to]).encode()).decode()
    browser.http.cookies.delete("kitaru_login")
    browser.http.cookies.set("kitaru_login", text, domain=urlsplit(browser.service.url).hostname)


def _other_nonce(browser: Browser, callback: str) -> str:
    _as(browser, nonce="another nonce of another login")
    return callback


def _other_verifier(browser: Browser, callback: str) -> str:
    _as(browser, code_verifier="v" * 48)
    return callback


def _other_browser(browser: Browser, callback: str) -> str:
    browser.http.cookies.delete("kitaru_login")
    return callback


CHANGES: dict[str, Change] = {
    "no attempt": _other_browser,
    "nonce": _other_nonce,
    "verifier": _other_verifier,
    "state": lambda _, callback: re.sub(r"state=[^&]+", "state=another", callback),
    "no state": lambda _, callback: re.sub(r"state=[^&]+", "", callback),
    "code": lambda _, callback: re.sub(r"code=[^&]+", "code=another", callback),
    "refused": lambda _, callback: f"{callback.partition('?')[0]}?error=access_denied&state=x",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_login_that_is_not_of_this_browser_is_refused(service: Running, what: str) -> None:
    browser = Browser(service)
    callback = CHANGES[what](browser, browser.answer(browser.ask(), "omar"))
    done = browser.http.get(callback, headers=HTML)
    assert done.status_code == 400, done.text
    assert "kitaru_session" not in str(done.headers.get_list("set-cookie"))


def test_a_code_is_used_once(service: Running) -> None:
    browser = Browser(service)
    callback = browser.answer(browser.ask(), "omar")
    cookie = browser.http.cookies["kitaru_login"]
    assert browser.http.get(callback).status_code == 303
    browser.http.cookies.set("kitaru_login", cookie, domain=urlsplit(service.url).hostname)
    assert browser.http.get(callback).status_code == 400


def test_no_other_site_is_shown_afterwards(service: Running) -> None:
    for to in ("https://attacker.example", "//attacker.example", "/\\attacker.example"):
        assert Browser(service).log_in("omar", to).headers["location"] == "/"


def test_a_token_still_logs_in(service: Running) -> None:
    made = KitaruClient(service.store).tokens.create("ci", "viewer")
    done = post(service, "/login", {"token": made.secret, "to": "/"})
    assert done.status_code == 303


def test_a_provider_that_does_not_answer_is_an_error(store: Store) -> None:
    oidc = {"issuer": "http://127.0.0.1:9", "client_id": "public"}
    with serving(store, oidc=oidc) as service:
        done = service.http.get("/login/provider", headers=HTML)
        assert done.status_code == 502 and "cannot be used" in done.text


@pytest.mark.parametrize(
    ("oidc", "roles"),
    [({"issuer": "https://x"}, {}), ({"issuer": "http://x", "client_id": "c"}, {}),
     ({"issuer": "https://x", "client_id": "c", "typo": "x"}, {}),
     ({"issuer": "https://x", "client_id": "c"}, {"group": "root"})],
)  # fmt: skip
def test_settings_that_are_not_valid(store: Store, oidc: Any, roles: Any) -> None:
    with pytest.raises(UsageError), serving(store, oidc=oidc, oidc_roles=roles):
        pass
