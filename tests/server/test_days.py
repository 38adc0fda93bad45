"""A day of an approver, of an engineer and of a reader, each in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kitaru.client import KitaruClient
from kitaru.stores import open_store
from tests.chromium import CHROMIUM, LONG_MS, chromium, expect, pages

from .conftest import Running, serving

pytest.importorskip("playwright.sync_api")
if not CHROMIUM.exists():
    pytest.skip("no browser in .envs: run dev.py test", allow_module_level=True)

LETTERS = """
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from kitaru import checkpoint, flow, wait

class Decision(BaseModel):
    verdict: Literal["approve", "reject"]
    note: str = ""

@checkpoint
def draft(topic: str) -> str:
    return f"Dear all, this is about **{topic}**."

@checkpoint
def send(text: str, outbox: str) -> str:
    if not Path(outbox).is_dir():
        raise ConnectionError("the mail server is down")
    return f"sent: {text}"

@flow
def letter(topic: str, outbox: str) -> str:
    text = draft(topic)
    decision = wait(name="ok", question="Send it?", schema=Decision, evidence={"Letter": text})
    if decision.verdict == "reject":
        return "dropped"
    return f"{send(text, outbox)} ({decision.note})"
"""
FAILING = 1 + LETTERS.splitlines().index('        raise ConnectionError("the mail server is down")')


class Office(NamedTuple):
    """A service with accounts, the folder that its mail needs, and two executions that wait."""

    service: Running
    client: KitaruClient
    outbox: Path
    owls: str
    cats: str

    def at(self, path: str) -> str:
        return self.service.url.rstrip("/") + path


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "letters.py").write_text(LETTERS)
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    client = KitaruClient(store)
    client.deployments.deploy(str(folder / "letters.py"), "local")
    outbox = folder / "outbox"
    places = {"owls": str(folder), "cats": str(outbox)}
    started = [
        client.deployments.invoke("letter", {"topic": topic, "outbox": place})
        for topic, place in places.items()
    ]
    for handle in started:
        assert handle.settle(240) == "waiting"
    with serving(store, accounts=True) as service:
        yield Office(service, client, outbox, *[handle.exec_id for handle in started])


LogIn = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def log_in(office: Office, browser: Any) -> Iterator[LogIn]:
    """Log in with a new token of a role."""
    with pages(browser, lambda url: url.startswith(office.service.url)) as page:

        def logged_in(role: str, width: int = 1440, height: int = 900, **options: Any) -> Any:
            secret = office.client.tokens.create(f"the-{role}", role).secret
            made = page(width, height, **options)
            made.goto(office.service.url)
            made.get_by_label("Token").fill(secret)
            made.get_by_role("button", name="Log in").click()
            made.get_by_role("link", name="Inbox").wait_for()
            return made

        yield logged_in


def test_a_day_of_an_approver(office: Office, log_in: LogIn) -> None:
    page = log_in("approver", 390, 844, has_touch=True, is_mobile=True)
    # What waits is the first page.
    expect(page).to_have_url(re.compile("/inbox$"))
    expect(page.get_by_text("Send it?")).to_have_count(2)
    page.locator(f'a[href="/inbox/{office.owls}/ok"]').tap()
    expect(page.locator("details.said").first).to_contain_text("Dear all, this is about")
    page.get_by_label("Note").fill("with love")
    page.get_by_label("approve").check()
    page.get_by_role("button", name="Send").last.tap()
    expect(page.get_by_text("The answer is recorded")).to_be_visible()
    # Nobody types a command: the execution continues, and the page of its end comes by itself.
    page.get_by_role("link", name="See the execution").tap()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    result = page.locator("#result")
    expect(result).to_contain_text("sent: Dear all, this is about")
    expect(result).to_contain_text("(with love)")
    # Running code is for others: it is neither offered nor done.
    expect(page.get_by_role("link", name="Replay…")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("Retry|Cancel"))).to_have_count(0)
    refused = page.request.get(office.at(f"/executions/{office.owls}/replay"))
    assert refused.status == 403 and "operator" in refused.text()
    [entry] = [one for one in office.client.audit(action="answer").items
               if one.exec_id == office.owls]  # fmt: skip
    assert entry.by.startswith("the-approver")


def test_a_day_of_an_engineer(office: Office, log_in: LogIn) -> None:
    office.client.executions.input(office.cats, {"verdict": "approve"})
    page = log_in("operator")
    page.goto(office.at("/executions?status=failed"))
    row = page.get_by_role("row").filter(has_text="the mail server is down")
    expect(row).to_be_visible()
    row.locator("a[data-row]").click()
    # What failed, why and where.
    expect(page.get_by_role("alert")).to_contain_text(
        "ConnectionError: the mail server is down in send"
    )
    expect(page.locator("#source tr.raised")).to_contain_text(
        f'{FAILING}        raise ConnectionError("the mail server is down") ← failed here'
    )
    expect(page.locator("#source tr.hit")).to_contain_text("send(text, outbox)")
    expect(page.locator("#detail")).to_contain_text("Traceback of the flow's own code")
    # The cause is mended, and the same execution continues from there.
    office.outbox.mkdir()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.locator("#timeline")).to_contain_text("2 attempts")
    expect(page.locator("#timeline tbody tr")).to_have_count(3)
    expect(page.locator("#result")).to_contain_text("this is about **cats**.")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.go_back()
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible(timeout=LONG_MS)


def test_a_day_of_a_reader(office: Office, log_in: LogIn) -> None:
    handle = office.client.deployments.invoke("letter", {"topic": "tea", "outbox": ""})
    assert handle.settle(240) == "waiting"
    page = log_in("viewer")
    question = office.at(f"/inbox/{handle.exec_id}/ok")
    page.goto(question)
    expect(page.locator("details.said").first).to_contain_text("Dear all, this is about")
    expect(page.get_by_text("You may read this question, not answer it.")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Send|End"))).to_have_count(0)
    # A request that no page offers is refused, in words that name the role.
    given = {"verdict": "approve"}
    origin = {"origin": office.service.url.rstrip("/"), "accept": "text/html"}
    refused = page.request.post(question, form=given, headers=origin)
    assert refused.status == 403
    path = office.at(f"/api/v1/executions/{handle.exec_id}/waits/ok/answer")
    also = page.request.post(path, data={"value": given}, headers={"origin": origin["origin"]})
    assert also.status == 403 and also.json()["code"] == "RoleDenied"
    for text in (refused.text(), also.json()["detail"]):
        assert "the-viewer" in text and "does not have the role approver" in text
    assert office.client.executions.get(handle.exec_id).status == "waiting"
    # What it may do, it can: read everything, and leave.
    page.goto(office.at(f"/executions/{handle.exec_id}"))
    expect(page.get_by_text("Waits for an answer to")).to_be_visible()
    expect(page.locator("#source tr.hit")).to_contain_text("decision = wait(")
    expect(page.get_by_role("link", name="See", exact=True)).to_be_visible()
