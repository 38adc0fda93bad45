"""The pages in a real browser: people of all kinds and screens, live changes, and no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kitaru.client import KitaruClient
from tests.chromium import CHROMIUM, chromium, expect, pages, violations

from . import page_flows
from .conftest import Running, begin
from .test_pages import PAGES

pytest.importorskip("playwright.sync_api")
if not CHROMIUM.exists():
    pytest.skip("no browser in .envs: run dev.py test", allow_module_level=True)

WIDTHS = (320, 390, 768, 1440)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any, shown: Running) -> Iterator[Open]:
    """Open a page; a message of the console or a request elsewhere fails the test."""
    with pages(browser, lambda url: url.startswith(shown.url)) as page:

        def open_page(path: str, width: int = 1440, height: int = 900, **options: Any) -> Any:
            made = page(width, height, **options)
            made.goto(shown.url.rstrip("/") + path)
            return made

        yield open_page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_each_screen_and_breaks_no_rule(path: str, opened: Open) -> None:
    page = opened(path, bypass_csp=True)
    for scheme, widths in (("light", WIDTHS), ("dark", (390, 1440))):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in widths:
            page.set_viewport_size({"width": width, "height": 844})
            too_wide = "document.documentElement.scrollWidth - innerWidth"
            assert page.evaluate(too_wide) <= 0, (scheme, width)
            if width in (390, 1440):
                assert violations(page) == [], (scheme, width)


def test_a_question_is_answered_with_three_taps_on_a_phone(opened: Open, shown: Running) -> None:
    begin(shown.store, "ask", "phone", "tea", module=page_flows)
    page = opened("/inbox/phone/ok", 390, 844, has_touch=True, is_mobile=True)
    page.get_by_text("Yes", exact=True).tap()
    page.get_by_role("button", name="Send “Yes”").tap()
    page.get_by_text("The answer is recorded").wait_for()
    [given] = KitaruClient(shown.store).executions.get("phone").answers
    assert given.value is True


def test_a_question_is_answered_without_a_script(opened: Open, shown: Running) -> None:
    begin(shown.store, "review", "no-script", "tea", module=page_flows)
    page = opened("/inbox/no-script/legal", java_script_enabled=False)
    page.get_by_label("approve").check()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("Clause").fill("7.2")
    page.get_by_role("button", name="Send answer").click()
    page.get_by_text("The answer is recorded").wait_for()
    [given] = KitaruClient(shown.store).executions.get("no-script").answers
    assert given.value["changes"] == [{"clause": "7.2", "must": False}]


def test_a_form_is_filled_in_with_the_keyboard(opened: Open, shown: Running) -> None:
    begin(shown.store, "review", "keyboard", "tea", module=page_flows)
    page = opened("/inbox/keyboard/legal")
    page.get_by_label("approve").focus()
    page.keyboard.press("ArrowDown")
    add = page.get_by_role("button", name="Add", exact=True)
    for clause in ("1", "2"):
        add.focus()
        page.keyboard.press("Enter")
        # The first field of the new item has the focus.
        page.keyboard.type(clause)
    page.get_by_role("button", name="Remove").first.press("Enter")
    page.keyboard.press("Control+Enter")
    page.get_by_text("The answer is recorded").wait_for()
    [given] = KitaruClient(shown.store).executions.get("keyboard").answers
    assert given.value["verdict"] == "reject"
    assert [one["clause"] for one in given.value["changes"]] == ["2"]


def test_a_draft_outlives_a_reload(opened: Open, shown: Running) -> None:
    begin(shown.store, "review", "draft", "tea", module=page_flows)
    page = opened("/inbox/draft/legal")
    page.get_by_label("Limit").fill("17")
    page.goto(shown.url.rstrip("/") + "/inbox")
    page.go_back()
    expect(page.get_by_label("Limit")).to_have_value("17")


def test_a_new_question_and_a_new_state_appear_by_themselves(opened: Open, shown: Running) -> None:
    begin(shown.store, "ask", "live", "tea", module=page_flows)
    inbox, execution = opened("/inbox"), opened("/executions/live")
    begin(shown.store, "ask", "newer", "a new topic", module=page_flows)
    inbox.get_by_text("Publish a new topic?").wait_for()
    # A person who reads keeps the focus.
    link = execution.get_by_role("link", name="Inbox")
    link.focus()
    KitaruClient(shown.store).executions.cancel("live")
    execution.get_by_text("Cancelled", exact=True).first.wait_for()
    expect(link).to_be_focused()


def test_times_are_those_of_the_viewer(opened: Open) -> None:
    page = opened("/executions/waits", timezone_id="Asia/Kolkata", locale="en-GB")
    first = page.locator(".facts time").first
    shown = first.text_content()
    page.keyboard.press(".")
    expect(first).to_contain_text("UTC")
    assert first.text_content() != shown


def test_the_timeline_opens_groups_and_rows(opened: Open) -> None:
    page = opened("/executions/waits")
    page.get_by_role("link", name="square × 6").click()
    expect(page.get_by_role("link", name="square_2")).to_have_count(1)
    page.get_by_role("link", name="draft", exact=False).first.click()
    page.get_by_role("link", name="Model call").click()
    expect(page.get_by_text("Answered by")).to_be_visible()


def test_selected_executions_are_cancelled_with_the_keyboard(opened: Open, shown: Running) -> None:
    for number in (1, 2, 3):
        begin(shown.store, "ask", f"many-{number}", "many teas", module=page_flows)
    page = opened("/executions?q=many+teas")
    bar = page.locator("#selected")
    expect(bar.get_by_role("button", name="Cancel…")).to_be_disabled()
    page.locator('a[href="/executions/many-3"]').focus()
    for key in ("x", "j", "x"):
        page.keyboard.press(key)
    expect(bar.get_by_role("status")).to_have_text("2 selected")
    # The selection outlives a change of the list.
    begin(shown.store, "ask", "many-4", "many teas", module=page_flows)
    expect(page.locator('a[href="/executions/many-4"]')).to_be_visible()
    expect(page.locator("input[name=exec_id]:checked")).to_have_count(2)
    bar.get_by_role("button", name="Cancel…").press("Enter")
    expect(page.get_by_role("heading", name="Cancel 2 executions?")).to_be_visible()
    assert KitaruClient(shown.store).executions.get("many-3").status == "waiting"
    page.get_by_role("button", name="Cancel 2 executions").press("Enter")
    expect(page.get_by_role("heading", name="Cancelled 2 of 2 executions")).to_be_visible()
    expect(page.get_by_role("cell", name="Cancelled", exact=True).last).to_be_visible()
    left = {f"many-{n}": str(KitaruClient(shown.store).executions.get(f"many-{n}").status)
            for n in range(1, 5)}  # fmt: skip
    assert left == dict.fromkeys(["many-3", "many-2"], "cancelled") | dict.fromkeys(
        ["many-1", "many-4"], "waiting"
    )
