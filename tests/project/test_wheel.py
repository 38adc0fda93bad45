"""What is in the wheel, and what importing it costs."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from kitaru.server import documentation
from kitaru.version import VERSION

from .conftest import ROOT, Installed, tracked

PACKAGES = {
    "kitaru": ROOT / "kitaru",
    "kitaru_compiler": ROOT / "compiler" / "kitaru_compiler",
    "kitaru_targets": ROOT / "targets" / "kitaru_targets",
    "kitaru_templates": ROOT / "templates" / "kitaru_templates",
}
HEAVY = {
    "asyncio", "click", "jinja2", "kitaru.cli", "kitaru_compiler", "kitaru_targets",
    "litellm", "networkx", "obstore", "pydantic", "rich", "ssl", "urllib.request", "yaml",
}  # fmt: skip
SPY = """
import json, sys
seen = []
WATCHED = "socket.connect socket.getaddrinfo sqlite3.connect subprocess.Popen".split()
sys.addaudithook(lambda event, args: seen.append(event) if event in WATCHED else None)
sys.argv = ["kitaru", {argument!r}]
from kitaru.cli import main
try:
    main()
except SystemExit as ended:
    code = ended.code
print("\\n" + json.dumps([code, seen, sorted(sys.modules)]))
"""


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    roots = {name.split("/")[0] for name in names(wheel)}
    assert {r for r in roots if not r.endswith(".dist-info")} == set(PACKAGES)


def test_the_documentation_for_agents_is_in_the_wheel(wheel: Path) -> None:
    found = {name for name in names(wheel) if name.startswith("kitaru/server/docs/")}
    assert {f"kitaru/server/docs/{page}.md" for page in documentation.pages()} <= found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_tracked_file_of_a_package_is_in_the_wheel(wheel: Path, package: str) -> None:
    folder = PACKAGES[package]
    expected = {f"{package}/{path.relative_to(folder).as_posix()}" for path in tracked(str(folder))}
    assert f"{package}/py.typed" in expected
    assert expected <= names(wheel)


def test_the_description_of_the_package_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n)
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.11\n" in metadata
    links = re.findall(r"\]\(([^)\s]+)\)", metadata)
    assert [link for link in links if not link.startswith(("https:", "http:", "#"))] == []
    assert "\n# Kitaru\n" in metadata


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n)
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
        assert "kitaru = kitaru.cli:main" in archive.read(f"{info}/entry_points.txt").decode()


@pytest.mark.parametrize(
    "module", ["kitaru", "kitaru.runtime.__main__", "kitaru.runtime.steps.step"]
)
def test_a_step_needs_only_the_standard_library(installed: Installed, module: str) -> None:
    """`-S` hides every installed package: the import works with Kitaru's own files alone."""
    program = (
        f"import sys; sys.path.insert(0, {str(installed.site)!r}); import {module}, json; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = installed.run(["-I", "-S", "-c", program], cwd=installed.site)
    assert done.returncode == 0, done.stderr
    assert HEAVY.isdisjoint(json.loads(done.stdout))


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_touch_nothing(
    installed: Installed, tmp_path: Path, argument: str
) -> None:
    done = installed.run(["-c", SPY.format(argument=argument)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code, seen, modules = json.loads(done.stdout.splitlines()[-1])
    assert not code
    assert seen == []
    assert (HEAVY - {"click", "rich", "kitaru.cli", "asyncio"}).isdisjoint(modules)
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_says_its_version(installed: Installed, tmp_path: Path) -> None:
    done = installed.kitaru("--version", cwd=tmp_path)
    assert VERSION in done.stdout
