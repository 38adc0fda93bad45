"""The page is one file that needs nothing, its two sides lead to one another, source stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.graph import dot, mermaid, page, svg

from kitaru.wire.plan import PlannedSchedule

from .conftest import EVERYTHING, FIRST, HEAD, Show

VOID = {"meta", "rect"}


class Parsed(HTMLParser):
    """Elements with their attributes and text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, index in self._open:
            self.texts[index] = self.texts.get(index, "") + data

    def by_id(self, id_: str) -> tuple[str, dict[str, str]]:
        (found,) = [element for element in self.elements if element[1].get("id") == id_]
        return found

    def text(self, tag: str) -> list[str]:
        return [self.texts.get(i, "") for i, (name, _) in enumerate(self.elements) if name == tag]


def parsed(show: Show, body: str = EVERYTHING) -> Parsed:
    shown = show(body)
    return Parsed(page(shown.graph, shown.sources, "Some Engine"))


def test_every_line_is_there_as_it_was_written(show: Show) -> None:
    body = 'a(n)\nx = "</script><b>bold</b>&amp;<!--"\nreturn b(x)'
    found = parsed(show, body)
    written = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    assert found.text("code") == written.removesuffix("\n").split("\n")
    assert "b" not in {tag for tag, _ in found.elements}
    data, _ = found.text("script")
    assert json.loads(data).keys() == {"folded", "items", "boxes", "folds", "edges"}


def test_nodes_and_lines_lead_to_one_another(show: Show) -> None:
    shown = show(EVERYTHING)
    found = Parsed(page(shown.graph, shown.sources))
    for number, node in enumerate(shown.graph.nodes):
        tag, attributes = found.by_id(f"node-{number}")
        lines = [f"line-0-{n}" for n in range(node.span.line, node.span.end_line + 1)]
        assert (tag, attributes["data-lines"].split()) == ("a", lines)
        assert attributes["href"] == f"#{lines[0]}"
        for line in lines:
            assert f"node-{number}" in found.by_id(line)[1]["data-nodes"].split()
    lit = [a["id"] for _, a in found.elements if a.get("data-nodes")]
    assert f"line-0-{FIRST + 5}" in lit
    assert f"line-0-{FIRST + 9}" not in lit, "`else:` belongs to nothing"


def test_every_link_leads_somewhere_and_nothing_leads_out(show: Show) -> None:
    found = parsed(show)
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for _, a in found.elements if "href" in a]
    assert links and {link[1:] for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)
    assert not [a for _, a in found.elements if "src" in a or "style" in a]
    assert not [name for _, a in found.elements for name in a if name.startswith("on")]
    assert "url(" not in found.text("style")[0] and "@import" not in found.text("style")[0]


def test_the_policy_allows_just_this_style_and_this_script(show: Show) -> None:
    found = parsed(show)
    (policy,) = [a["content"] for tag, a in found.elements if "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    for kind in ("style", "script"):
        text = found.text(kind)[-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_it_can_be_used_without_a_mouse_and_is_named(show: Show) -> None:
    found = parsed(show)
    focusable = [a for tag, a in found.elements if tag == "a"]
    assert all(a.get("aria-label") for a in focusable)
    script = found.text("script")[-1]
    assert {"focusin", "focusout", "mouseenter", "mouseleave", "keydown"} <= set(
        re.findall(r"\w+", script)
    )
    assert "prefers-color-scheme: dark" in found.text("style")[0]
    assert found.text("title")[0] == "work for Some Engine"


def test_edges_name_the_nodes_that_the_script_walks(show: Show) -> None:
    shown = show(EVERYTHING)
    found = Parsed(page(shown.graph, shown.sources, "Some Engine"))
    ids = {node.id: f"node-{number}" for number, node in enumerate(shown.graph.nodes)}
    data = json.loads(found.text("script")[0])
    walked = [(edge["source"], edge["target"]) for edge in data["edges"]]
    drawn = [(ids[edge.source], ids[edge.target]) for edge in shown.graph.edges]
    assert walked[: len(drawn)] == drawn
    assert all(found.by_id(end)[0] == "a" for edge in drawn for end in edge)
    # Behind them are the edges of folded arms.
    folds = [fold["id"] for fold in data["folds"]]
    assert all(source in folds for source, _ in walked[len(drawn) :])


def test_a_region_is_explained_where_it_ends(show: Show) -> None:
    found = parsed(show)
    order = [a["id"] for _, a in found.elements if "id" in a]
    (why,) = [id_ for id_ in order if id_.startswith("why-")]
    assert order[order.index(why) - 1] == f"line-0-{FIRST + 4}"
    what, rule, fix = found.text("p")[-3:]
    assert (what, fix[:5]) == ("KIT310 while depends on results", "help:")
    assert "native loops" in rule and "range" in fix
    assert "while" in found.text("samp") and "`" not in what + rule + fix
    assert found.by_id(why)[0] == "div"


def test_what_is_found_here_is_told_and_not_the_rule_alone(show: Show) -> None:
    shown = show("f = lambda: n\nn = a(n)\nreturn b(f())")
    (node,) = [node for node in shown.graph.nodes if node.reason]
    assert node.reason == "KIT318" and "`n`" in node.why and node.fix
    texts = Parsed(page(shown.graph, shown.sources)).text("p")
    assert f"KIT318 {node.why}".replace("`", "") in texts


MARKUP = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title></style>",
    "javascript:alert(1)", "[x](javascript:alert(1))", "&lt;b&gt;&#60;", "--><!--", "]]>",
    "' onfocus='alert(1)", "%3Cscript%3E", "{{ flow }}{% raw %}", "`</samp><b>`", "```",
    "| a | b |", "$(id) `id`; rm -rf /", "\u202e\u2066x\u2069", "\x1b[31m", "\x85", "\ufeff",
]  # fmt: skip
BENIGN = "benign"


def in_every_place(text: str) -> str:
    """Return a body that has a text wherever source can have one."""
    # Nothing that ends a line of Python's, or a string.
    raw = text.replace('"', "'")
    return (
        f'"""{raw}"""\na(n)  # {raw}\nlabel = "{raw}"\nif label == "{raw}":  # {raw}\n'
        f'    kitaru.log(note="{raw}")\nwhile n < 3 and label != "{raw}":\n    n += len(b(n))\n'
        f'kitaru.wait(name="ok", question="{raw}", schema=bool)\nreturn "{raw}"'
    )


@pytest.mark.parametrize("text", MARKUP)
def test_no_text_is_markup(show: Show, text: str) -> None:
    def shape(text: str) -> list[tuple[str, list[str], str]]:
        found = parsed(show, in_every_place(text))
        return [(tag, sorted(a), a.get("href", "")) for tag, a in found.elements]

    # A text of several words may take more lines, and a backtick of a note makes code.
    assert set(map(str, shape(text))) == set(map(str, shape(BENIGN)))


@pytest.mark.parametrize("text", MARKUP)
def test_no_text_is_markup_in_other_drawings(show: Show, text: str) -> None:
    hostile, benign = show(in_every_place(text)).graph, show(in_every_place(BENIGN)).graph
    for draw in (mermaid, dot):
        assert len(draw(hostile).splitlines()) == len(draw(benign).splitlines())
    tags = [[e.tag for e in ElementTree.fromstring(svg(g)).iter()] for g in (hostile, benign)]
    assert set(tags[0]) == set(tags[1])


def guided(target: str, text: str) -> str:
    """Return DEPLOY.md of a flow whose project has a text wherever it can have one."""
    parameter = {"name": "topic", "type": "string", "default": f'"{text}"', "is_json": False}
    return registry.get(target).guide({
        "flow": "work", "target": target, "title": "T", "document": "d", "delivery": "store",
        "image": "registry/image:1", "brought": False, "pipeline": "work", "base_image": "python",
        "store": f"s3://{text}", "key": "bundle/1", "requirements": [f"pin=={text}"],
        "hashed": True, "unhashed": [f"pin=={text}"],
        "parameters": [parameter], "models": [(text, text)], "written": [text],
        "secrets": [("KEY", f"env:{text}")], "waits": ["ok"], "asks": ("ok",),
        "options": {"role": text, "queue": text}, "steps": ["a"], "beside": ["kitaru_1.py"],
        "schedule": PlannedSchedule("0 2 * * *", "Europe/Berlin", "allow", "none", "target"),
    })  # fmt: skip


def outside_code(text: str) -> list[str]:
    """Return the lines of Markdown without code, and fences as they are."""
    shown, fenced = [], False
    for row in text.split("\n"):
        fenced ^= row.startswith("```") and row.count("```") == 1
        plain = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "CODE", row)
        shown.append("FENCED" if fenced else plain)
    return shown


@pytest.mark.parametrize("target", registry.names())
@pytest.mark.parametrize("text", MARKUP)
def test_no_text_is_markup_in_the_guide(target: str, text: str) -> None:
    assert outside_code(guided(target, text)) == outside_code(guided(target, BENIGN))
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", guided(target, text)
    )


@pytest.mark.parametrize("target", registry.names())
def test_lines_to_paste_have_one_word_for_a_text(target: str) -> None:
    text = "a b; $(id)"
    for row in guided(target, text).split("\n"):
        if text in row and "`" not in row:
            assert any(text in word for word in shlex.split(row)), row


@pytest.mark.parametrize("target", registry.names())
def test_a_build_has_the_page_and_the_same_one_each_time(target: str, tmp_path: Path) -> None:
    source = HEAD + dedent(EVERYTHING).replace("\n", "\n    ") + "\n"

    def made(folder: str) -> build.Build:
        path = tmp_path / folder / "flow.py"
        path.parent.mkdir()
        path.write_text(source)
        chosen = registry.get(target)
        compilation = compile_flow(path, profile=chosen.profile)
        return build.write(compilation, chosen, tmp_path / folder / "out")

    one, two = made("one"), made("two")
    text = (one.directory / "index.html").read_bytes()
    assert text == (two.directory / "index.html").read_bytes()
    assert registry.get(target).title in text.decode()
    (one.directory / "index.html").write_bytes(text + b" ")
    with pytest.raises(Exception, match=r"index\.html changed"):
        build.read(one.directory)


def test_a_source_of_another_encoding_and_deep_nesting(tmp_path: Path) -> None:
    body = "".join(f"{'    ' * (d + 1)}if n > {d}:\n" for d in range(60))
    text = f"# coding: latin-1\n# é\n{HEAD}{body}{'    ' * 61}a(n)\n    return b(n)\n"
    (tmp_path / "flow.py").write_bytes(text.encode("latin-1"))
    chosen = registry.get("kubeflow")
    made = build.write(
        compile_flow(tmp_path / "flow.py", profile=chosen.profile), chosen, tmp_path / "out"
    )
    found = Parsed((made.directory / "index.html").read_text(encoding="utf-8"))
    assert found.text("code")[1] == "# é"
