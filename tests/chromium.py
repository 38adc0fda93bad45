"""The browser of the tests, which `dev.py test` installs, and axe-core, which checks pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).parents[1] / ".envs" / "browser"
CHROMIUM = _INSTALLED / "chromium"
# For a busy machine; nothing takes so long when it passes.
LONG_MS = 120_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser; end it afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=options, timeout=LONG_MS
        )
        yield started
        started.close()


@contextmanager
def pages(browser: Any, is_expected: Callable[[str], bool]) -> Iterator[Callable[..., Any]]:
    """Yield a function that makes an empty page of a size and other options, such as a locale.

    Afterwards, raise AssertionError for a message of a console, a dialog, or a request for an
    address that is not expected.
    """
    contexts: list[Any] = []
    trouble: list[str] = []

    def page(width: int, height: int, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(LONG_MS)
        contexts.append(context)
        made = context.new_page()
        made.on("console", lambda message: trouble.append(message.text))
        made.on("pageerror", lambda error: trouble.append(str(error)))
        made.on("dialog", lambda dialog: trouble.append(dialog.message))
        made.on("request", lambda one: None if is_expected(one.url) else trouble.append(one.url))
        return made

    yield page
    for context in contexts:
        context.close()
    assert trouble == []


def expect(found: Any) -> Any:
    """Return playwright's assertions about an element, which wait until they hold.

    A page may change some time after a click. What is read at once may be the page before it.
    """
    from playwright.sync_api import expect

    expect.set_options(timeout=LONG_MS)
    return expect(found)


def violations(page: Any) -> list[str]:
    """Return what axe-core finds wrong in a page; its policy must allow the script."""
    page.evaluate((_INSTALLED / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found: list[str] = page.evaluate(
        """() => axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa",
        "best-practice"]}).then(all => all.violations.map(
            one => `${one.id}: ${one.nodes[0].html.slice(0, 200)}`))"""
    )
    return found
