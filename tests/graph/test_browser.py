"""The page in Chromium: it fits, folds, links graph and source, and can be used by everybody.

`.envs/browser` contains the browser; `dev.py test` installs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets.graph import page as html

from tests.chromium import CHROMIUM, chromium, pages, violations

from .conftest import EVERYTHING, Show
from .test_page import MARKUP, in_every_place

pytest.importorskip("playwright.sync_api")

if not CHROMIUM.exists():
    pytest.skip("no browser in .envs: run dev.py test", allow_module_level=True)
SIZES = {"wide": (1400, 900), "narrow": (500, 900), "phone": (390, 844), "smallest": (320, 568)}
EIGHT = "\n".join(["x = n", *["x = a(x)\nx = b(x)"] * 4, "return x"])
FOLDS = """
    if n > 1:
        x = a(n)
        if x:
            x = b(x)
            x = c(x)
            if x > 2:
                x = a(x)
                x = b(x)
        else:
            return c(x)
    else:
        x = b(n)
    if x > 7:
        a(1)
        kitaru.wait(name="ok", schema=bool)
    return a(x)
"""
HELPER = "def both(y):\n    x = a(y)\n    return b(x)\n\n"
# The helper is called on the main axis and in an arm.
HELPED = """
    x = both(n)
    if x:
        x = both(x)
    return c(x)
"""
SIXTY = "x = n\n" + "".join(
    f"x = a(x)\nx = b(x)\nif x > {i}:\n    x = b(x)\n    x = c(x)\n    x = a(x)\n"
    for i in range(12)
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any, show: Show, tmp_path: Path) -> Iterator[Open]:
    """Open the page of a flow; a message of the console or another request fails the test."""
    files: list[str] = []
    with pages(browser, lambda url: url in files) as page:

        def open_page(body: str, size: str = "wide", helper: str = "", **options: Any) -> Any:
            shown = show(body, helper=helper)
            file = tmp_path / f"page{len(files)}.html"
            file.write_text(html(shown.graph, shown.sources), encoding="utf-8")
            files.append(file.as_uri())
            made = page(*SIZES[size], **options)
            made.goto(file.as_uri())
            return made

        yield open_page


def boxes(page: Any, selector: str) -> dict[str, tuple[float, float, float, float]]:
    """The boxes of what is shown, as left, top, right and bottom."""
    script = """all => all.map(one => {
        const box = one.querySelector(".shape").getBoundingClientRect();
        return [one.id, [box.left, box.top, box.right, box.bottom]];
    })"""
    return {id_: tuple(box) for id_, box in page.eval_on_selector_all(selector, script)}


NODES, FOLDED = ".node:not(.hidden)", ".folded:not(.hidden)"


def readable(page: Any) -> None:
    """Fail if a box covers another, or if an edge does not lead from its source to its target."""
    found = boxes(page, f"{NODES}, {FOLDED}")
    for one, other in combinations(found.values(), 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (one, other)
    edges = page.eval_on_selector_all(
        ".graph .edge:not(.hidden)",
        """all => all.map(one => {
            const at = (length) => {
                const point = one.getPointAtLength(length).matrixTransform(one.getScreenCTM());
                return [point.x, point.y];
            };
            return [at(0), at(one.getTotalLength())];
        })""",
    )
    for (sx, sy), (ex, ey) in edges:
        assert any(b[0] - 1 <= sx <= b[2] + 1 and b[1] <= sy <= b[3] + 1 for b in found.values())
        ends = [abs(ex - (b[0] + b[2]) / 2) < 2 and abs(ey - b[1]) < 2 for b in found.values()]
        assert any(ends), (ex, ey)
    # All that is drawn is connected: each box but the first has an edge to it.
    aims = {(round(ex), round(ey)) for _, (ex, ey) in edges}
    tops = [(round((b[0] + b[2]) / 2), round(b[1])) for b in found.values()]
    alone = [t for t in tops[1:] if not any(abs(t[0] - x) + abs(t[1] - y) < 4 for x, y in aims)]
    assert alone == []


def within(page: Any) -> bool:
    """Whether the whole drawing is visible in its pane."""
    pane = page.locator(".pane").bounding_box()
    right, bottom = pane["x"] + pane["width"], pane["y"] + pane["height"]
    found = boxes(page, f"{NODES}, {FOLDED}").values()
    return all(
        pane["x"] <= b[0] < b[2] <= right and pane["y"] <= b[1] < b[3] <= bottom for b in found
    )


def scale(page: Any) -> float:
    found = page.eval_on_selector("svg.graph", "one => one.getScreenCTM().a")
    return float(found)


@pytest.mark.parametrize(("body", "least"), [(EIGHT, 0.7), (EVERYTHING, 0.7), (SIXTY, 0.45)])
def test_a_flow_fits_a_window(body: str, least: float, opened: Open) -> None:
    page = opened(body)
    assert within(page) and scale(page) >= least
    readable(page)


@pytest.mark.parametrize("size", ["narrow", "phone", "smallest"])
def test_graph_and_source_share_a_small_window(size: str, opened: Open) -> None:
    page = opened(SIXTY, size)
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    heights = page.evaluate("[document.documentElement.scrollHeight, innerHeight]")
    assert widths[0] == widths[1] and heights[0] == heights[1]
    assert page.locator(".source").bounding_box()["height"] > 0.2 * heights[1]
    assert scale(page) >= 0.45
    readable(page)


def test_folding_closes_the_gap_and_opening_restores_it(opened: Open) -> None:
    for body, helper in ((FOLDS, ""), (HELPED, HELPER)):
        page = opened(body, helper=helper)
        before = boxes(page, NODES)
        count = page.locator(".fold").count()
        assert count >= 2
        for number in range(count):
            button = page.locator(f"#fold-{number}-button")
            button.press("Enter")
            assert button.get_attribute("aria-expanded") == "false"
            assert page.locator(f"#fold-{number}").is_visible()
            readable(page)
            assert len(boxes(page, NODES)) < len(before)
            button.press(" ")
            assert boxes(page, NODES) == before
        page.get_by_role("button", name="fold all").click()
        readable(page)
        page.get_by_role("button", name="unfold all").click()
        assert boxes(page, NODES) == before


def test_a_folded_box_opens_where_its_code_is_selected(opened: Open) -> None:
    page = opened(FOLDS)
    page.get_by_role("button", name="fold all").click()
    hidden = page.locator(".node.hidden").first.get_attribute("id")
    line = page.locator(f"[data-nodes~={hidden}]").first
    line.hover()
    assert page.locator(".folded.lit").count() == 1
    line.locator("a").click()
    assert page.locator(f"#{hidden}").is_visible()


def test_nodes_and_lines_light_up_together(opened: Open) -> None:
    page = opened(EVERYTHING)
    region = page.locator(".node.region")
    region.hover()
    lines = page.eval_on_selector_all("li.lit", "all => all.map(one => one.id)")
    assert lines == region.get_attribute("data-lines").split()
    assert page.locator(".node:not(.on-way)").count() > 0
    page.locator("h1").hover()
    assert page.locator(".lit").count() == 0
    page.locator(f"#{lines[-1]}").hover()
    assert "lit" in region.get_attribute("class").split()


def test_keys_walk_and_change_the_scale(opened: Open) -> None:
    page = opened(EVERYTHING)
    page.locator("#node-1").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") == "node-2"
    assert page.locator("li.lit").count() > 0
    fitted = scale(page)
    page.keyboard.press("+")
    assert scale(page) == pytest.approx(1.25 * fitted, rel=1e-3)
    page.keyboard.press("0")
    assert scale(page) == fitted


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_no_rule_of_accessibility_is_broken(size: str, scheme: str, opened: Open) -> None:
    # The rules are a script, which the page's policy would refuse.
    page = opened(EVERYTHING + FOLDS, size, color_scheme=scheme, bypass_csp=True)
    assert violations(page) == []


def test_the_text_of_a_flow_is_never_run(opened: Open) -> None:
    body = "\n".join(
        line
        for text in MARKUP
        for line in in_every_place(text).split("\n")[:-1]
        if "wait" not in line
    )
    page = opened(f"{body}\nreturn n")
    assert (
        page.evaluate("document.querySelectorAll('img, b:not(.why b), .source script').length") == 0
    )


def test_without_a_script_everything_is_there(opened: Open) -> None:
    page = opened(FOLDS, java_script_enabled=False)
    assert page.locator(".node:visible").count() == page.locator(".node").count() > 5
    assert not page.locator(".tools").is_visible()


def test_the_layout_names_only_what_is_drawn(opened: Open) -> None:
    page = opened(FOLDS)
    layout = json.loads(page.locator("#layout").text_content())
    ids = [*layout["boxes"], *(fold["id"] for fold in layout["folds"])]
    ids += [f"edge-{number}" for number in range(len(layout["edges"]))]
    assert page.evaluate("ids => ids.every(id => document.getElementById(id))", ids)
