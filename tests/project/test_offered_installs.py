"""What a message offers to install is what the project itself requires, and never `kitaru`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from .conftest import tracked

ROOT = Path(__file__).parents[2]
FOLDERS = ("kitaru", "targets", "compiler", "templates")
TEXTS = (".md", ".py", ".j2", ".toml", ".txt", ".yml")
NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements() -> dict[str, str]:
    """Return the requirement of each distribution that the project or an extra of it needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    found = [(NAME.match(one), one) for one in [*project["dependencies"], *extras]]
    return {named[0]: one for named, one in found if named}


def sources() -> dict[str, str]:
    paths = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.is_file()]
    return {
        str(p.relative_to(ROOT)): p.read_text("utf-8")
        for p in paths
        if p.suffix in (".py", ".j2", ".md")
    }


def test_offered_installs_respect_the_bounds() -> None:
    offered = 0
    needed = requirements()
    for path, text in sources().items():
        for found in re.finditer(r"pip install (?:--upgrade )?((?:[^\n]|\"\n *\")*)", text):
            for name, requirement in needed.items():
                if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", found[1]):
                    offered += 1
                    assert requirement in found[1], (path, found[0])
            assert not re.match(r"['\"]?kitaru\b", found[1]), (path, found[0])
    assert offered > 5


FROM_INDEX = re.compile(
    r"(?<!Not `)(?:pip|pipx|uv|uv tool|poetry) (?:install|add) +(?:-\S+ +)*['\"]?kitaru(?![\w/-])"
)


@pytest.mark.parametrize("path", [p for p in tracked() if p.suffix in TEXTS], ids=str)
def test_no_text_installs_kitaru_from_an_index(path: Path) -> None:
    # The package of this name there is another project.
    if path != Path(__file__):
        assert FROM_INDEX.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize("command", ["pip install kitaru", "uv add 'kitaru[store]'"])
def test_an_installation_from_an_index_is_noticed(command: str) -> None:
    assert FROM_INDEX.search(f"Then `{command}`.")
    assert not FROM_INDEX.search("pip install PATH/TO/kitaru")


def test_the_sdks_of_secret_managers_respect_the_bounds() -> None:
    from kitaru.runtime.secrets import _SDKS

    needed = requirements()
    for named in " ".join(_SDKS.values()).split():
        plain = named.strip("'")
        found = NAME.match(plain)
        assert found and needed.get(found[0], plain) == plain
