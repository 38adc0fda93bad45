"""Hooks of the site's build: generated pages, Markdown beside HTML, `llms.txt`.

mkdocs calls the functions by their names. A link that leaves the documentation, such as one to a
test, leads nowhere on the site: it becomes the path of the file in the repository.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from website import reference  # noqa: E402

BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#)([^)\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+\.svg)\)")
NOTE = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
SUMMARY = (
    "Kitaru compiles plain-Python agent flows into the pipelines of Kubeflow, Vertex AI, "
    "SageMaker, Azure ML, Step Functions or Airflow, and makes them durable: the result of a "
    "checkpoint is recorded, and a recorded checkpoint never runs again. The package of this name "
    "on PyPI is another project."
)
markdown: dict[str, str] = {}
"""The text of each page by its address, as it is written beside the HTML."""


def on_files(files: Files, *, config: Any) -> Files:
    for address, make in reference.PAGES.items():
        files.append(File.generated(config, address, content=make()))
    return files


def on_page_markdown(text: str, *, page: Page, config: Any, files: Files) -> str:
    plain = without_outside_links(NOTE.sub("", text), page.file.src_uri)
    markdown[page.file.src_uri] = plain
    return PICTURE.sub(lambda found: inline(found, page.file.src_uri), plain)


def on_post_page(output: str, *, page: Page, config: Any) -> str:
    """Search in pages that are opened as files without a script of another server."""
    return search_here(output, posixpath.dirname(page.file.dest_uri))


def on_post_template(output: str, *, template_name: str, config: Any) -> str:
    return search_here(output, "")


def search_here(output: str, folder: str) -> str:
    local = posixpath.relpath("search-in-files.js", folder or ".")
    return re.sub(r'src="https://unpkg\.com/iframe-worker/shim"', f'src="{local}"', output)


def without_outside_links(text: str, address: str) -> str:
    folder = posixpath.dirname(address)

    def plain(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, found[2].partition("#")[0]))
        inside = path.startswith("docs/")
        return found[0] if inside else f"{found[1]} (`{path}` in the repository)"

    parts = BLOCK.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(plain, part) for part in parts)


def inline(found: re.Match[str], address: str) -> str:
    """Return a picture as part of the page, so that it has the colours of the reader's scheme.

    A drawing of `kitaru graph` has a style sheet of its own and remains an image.
    """
    path = ROOT / "docs" / posixpath.dirname(address) / found[2]
    text = path.read_text("utf-8")
    if 'class="kitaru-picture"' not in text:
        return found[0]
    drawing = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return f'<figure class="picture" role="img" aria-label="{found[1]}">{drawing.strip()}</figure>'


def on_post_build(*, config: Any) -> None:
    site = Path(config["site_dir"])
    entries, whole = [], []
    for address in ordered(config):
        text = markdown[address]
        target = site / renamed(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"\bREADME\.md\b", "index.md", text), "utf-8")
        entries.append(f"- [{title(text)}]({renamed(address)}): {first_sentence(text)}")
        whole.append(text)
    listed = f"# Kitaru\n\n> {SUMMARY}\n\n## Pages\n\n" + "\n".join(entries) + "\n"
    (site / "llms.txt").write_text(listed, "utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(whole), "utf-8")


def ordered(config: Any) -> list[str]:
    """Return the pages in the order of the navigation."""

    def walk(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        parts = part.values() if isinstance(part, dict) else part
        return [address for one in parts for address in walk(one)]

    return [address for address in walk(config["nav"]) if address in markdown]


def renamed(address: str) -> str:
    return re.sub(r"README\.md$", "index.md", address)


def title(text: str) -> str:
    return text.lstrip().splitlines()[0].lstrip("# ")


def first_sentence(text: str) -> str:
    for paragraph in BLOCK.sub("", text).split("\n\n")[1:]:
        if re.match(r"[A-Z*`\[]", paragraph):
            plain = LINK.sub(r"\1", " ".join(paragraph.split()))
            return re.split(r"(?<=[.:]) (?=[A-Z`*])", plain)[0]
    return ""


def on_config(config: Any) -> Any:
    """Let the navigation list every decision, so that a new one needs no line there."""
    decisions = sorted(p.name for p in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    fill(config["nav"], [f"adr/{name}" for name in decisions])
    markdown.clear()
    return config


def fill(part: Any, decisions: list[str]) -> None:
    for one in part:
        for name, inside in one.items() if isinstance(one, dict) else ():
            if name == "Decisions":
                one[name] = [*inside, *decisions]
            elif isinstance(inside, list):
                fill(inside, decisions)
