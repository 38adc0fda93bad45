"""The documentation's site: pages are reachable, generated pages complete, builds strict."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import kitaru
from kitaru.cli.app import cli
from kitaru.settings import KINDS
from website import reference

from .conftest import ROOT, tracked

MKDOCS = ROOT / ".envs" / "docs" / "bin" / "mkdocs"
CONFIGURATION = ROOT / "website" / "mkdocs.yml"


def addresses(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    else:
        for one in part.values() if isinstance(part, dict) else part:
            yield from addresses(one)


def test_the_navigation_has_every_page() -> None:
    listed = set(addresses(yaml.safe_load(CONFIGURATION.read_text())["nav"]))
    pages = {str(p.relative_to(ROOT / "docs")) for p in tracked("docs/*.md")}
    # The build adds the decisions.
    wanted = {p for p in pages if not re.match(r"adr/\d", p)} | set(reference.PAGES)
    assert listed == wanted, "put each page below docs/ into `nav` of website/mkdocs.yml"


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, click.Context(child, context, name))


def test_the_page_of_commands_has_every_option() -> None:
    page = reference.commands()
    for path, command in commands(cli, click.Context(cli, info_name="kitaru")):
        if path == "kitaru":
            continue
        _, found, after = page.partition(f"### {path}\n")
        assert found, path
        section = after.partition("\n### ")[0]
        options = [o for p in command.params if isinstance(p, click.Option) for o in p.opts]
        assert [o for o in options if o not in section] == [], path


def test_the_page_of_the_api_has_every_name() -> None:
    page = reference.python()
    names = [n for n in kitaru.__all__ if n not in ("__version__", "errors", "memory")]
    absent = [n for n in names if f"# kitaru.{n}\n" not in page and f"| `{n}` |" not in page]
    aliases = [n for n in absent if getattr(kitaru, n).__name__ != n]
    assert [n for n in absent if n not in aliases] == []
    for method in ("client.executions.replay", "client.deployments.invoke", "kitaru.memory.get"):
        assert f"# {method}\n" in page


def test_examples_of_the_reference_are_python() -> None:
    examples = re.findall(r"```python\n(.*?)\n```", reference.python(), re.DOTALL)
    assert len(examples) > 40
    for example in examples:
        # Awaits stand in an async function.
        code = re.sub(r"(?m)^(>>>|\.\.\.) ?", "", example)
        compile(code, example, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


def test_the_page_of_settings_has_every_setting() -> None:
    assert list(reference.SETTINGS) == list(KINDS), "describe it in website/reference.py"
    page = reference.settings_page()
    assert all(f"| `{name}` |" in page for name in KINDS)


class Requests(HTMLParser):
    """What a page makes a browser load by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.addresses.append(values.get("href") or "")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not MKDOCS.exists():
        reason = "mkdocs is not there: python3 dev.py docs"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    command = [MKDOCS, "build", "--config-file", CONFIGURATION, "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_also_markdown(site: Path) -> None:
    pages = [p for p in site.rglob("*.html") if p.name != "404.html"]
    assert len(pages) > 50
    assert [p for p in pages if not p.with_suffix(".md").read_text("utf-8").startswith("#")] == []
    listed = re.findall(r"\]\((\S+\.md)\)", (site / "llms.txt").read_text("utf-8"))
    assert {site / one for one in listed} == {p.with_suffix(".md") for p in pages}
    assert (site / "llms-full.txt").stat().st_size > 100_000


def test_pages_load_nothing_from_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        requests = Requests()
        requests.feed(page.read_text("utf-8"))
        assert requests.addresses
        assert [a for a in requests.addresses if a.startswith(("http:", "https:", "//"))] == [], (
            page
        )


def test_a_broken_link_fails_the_build(site: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("# A\n\n[b](absent.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: A\nstrict: true\n")
    command = [MKDOCS, "build"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "absent.md" in done.stderr
