"""What a step installs, and which imports nothing provides: from every list a project may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import check, compile_flow

FLOW = """\
from kitaru import checkpoint, flow
{imports}
@checkpoint
def work(x: int) -> int:
    return x

@flow
def main(x: int) -> int:
    return work(x)
"""
PROJECT = '[project]\nname = "mine"\nversion = "1"\ndependencies = [{0}]\n'
UV = """\
[[package]]
name = "mine"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "httpx" }]

[[package]]
name = "httpx"
version = "0.28.1"
dependencies = [{ name = "anyio" }, { name = "pywin32", marker = "sys_platform == 'win32'" }]

[[package]]
name = "anyio"
version = "4.9.0"

[[package]]
name = "pywin32"
version = "306"
"""
POETRY = """\
[[package]]
name = "httpx"
version = "0.28.1"

[package.dependencies]
anyio = "*"
colorama = { version = "*", markers = "sys_platform == 'win32'" }

[[package]]
name = "anyio"
version = "4.9.0"
"""
PDM = """\
[[package]]
name = "httpx"
version = "0.28.1"
dependencies = ["anyio", "colorama; sys_platform == 'win32'"]

[[package]]
name = "anyio"
version = "4.9.0"
"""
PYLOCK = """\
[[packages]]
name = "httpx"
version = "0.28.1"
dependencies = [{ name = "anyio" }]

[[packages]]
name = "anyio"
version = "4.9.0"
"""
BOTH = ("anyio==4.9.0", "httpx==0.28.1")


def project(folder: Path, imports: str, files: dict[str, str]) -> Path:
    for name, text in {"flow.py": FLOW.format(imports=imports), **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "flow.py"


def codes(path: Path) -> list[str]:
    return [d.code for d in check(path)[0]]


@pytest.mark.parametrize(
    ("files", "pins"),
    [
        ({"requirements.txt": "httpx==0.28.1\n"}, ("httpx==0.28.1",)),
        ({"requirements.txt": "-r r/base.txt\n", "r/base.txt": "httpx==1 # x\n"}, ("httpx==1",)),
        ({"requirements.txt": "httpx\n-c c.txt\n", "c.txt": "httpx==2\nx==1"}, ("httpx==2",)),
        ({"requirements.txt": "httpx>=0.2\n", "pyproject.toml": "", "uv.lock": UV}, BOTH),
        ({"pyproject.toml": PROJECT.format('"httpx==3", "kitaru"')}, ("httpx==3",)),
        ({"pyproject.toml": PROJECT.format('"httpx>=0.2"'), "uv.lock": UV}, BOTH),
        ({"pyproject.toml": PROJECT.format('"httpx"'), "pdm.lock": PDM}, BOTH),
        ({"pyproject.toml": PROJECT.format('"httpx"'), "pylock.toml": PYLOCK}, BOTH),
        (
            {
                "pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nhttpx = "*"\n',
                "poetry.lock": POETRY,
            },
            BOTH,
        ),
        (
            {
                "pyproject.toml": PROJECT.format("")
                + '[project.optional-dependencies]\nweb = ["httpx==4"]\ndb = ["sqlalchemy==2"]\n'
            },
            ("httpx==4",),
        ),
        (
            {"pyproject.toml": PROJECT.format("") + '[dependency-groups]\nweb = ["httpx==5"]\n'},
            ("httpx==5",),
        ),
        (
            {
                "pyproject.toml": '[tool.kitaru]\nrequirements = "deps/steps.txt"\n',
                "deps/steps.txt": "httpx==6\n",
            },
            ("httpx==6",),
        ),
    ],
)
def test_pins_come_from_the_lists_of_the_project(
    files: dict[str, str], pins: tuple[str, ...], tmp_path: Path
) -> None:
    path = project(tmp_path, "import httpx", files)
    assert compile_flow(path).plan.requirements == pins
    assert codes(path) == ["KIT509"]


def test_what_nothing_pins_is_not_installed_and_found(tmp_path: Path) -> None:
    files = {"pyproject.toml": PROJECT.format('\n  "httpx>=0.2",\n')}
    path = project(tmp_path, "import httpx", files)
    assert compile_flow(path).plan.requirements == ()
    (finding,) = check(path)[0]
    assert (finding.code, finding.span.file, finding.span.line) == ("KIT501", "pyproject.toml", 5)


@pytest.mark.parametrize(
    "imports",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas",
        "import typing\nif typing.TYPE_CHECKING:\n    from pandas import DataFrame",
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None",
        "try:\n    import pandas\nexcept (AttributeError, ModuleNotFoundError):\n    pass",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import pandas",
        "import corp.tools\nfrom corp import tools",
        "import json, email.message",
    ],
)
def test_imports_that_a_step_can_do_without_need_no_requirement(
    imports: str, tmp_path: Path
) -> None:
    assert codes(project(tmp_path, imports, {"corp/tools.py": ""})) == []


@pytest.mark.parametrize(
    "imports",
    [
        "import pandas",
        "def f():\n    import pandas",
        "import helper",
        "try:\n    import pandas\nexcept ValueError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    pass\nelse:\n    import pandas",
        "if not __debug__:\n    import pandas",
    ],
)
def test_an_import_that_nothing_provides_is_found(imports: str, tmp_path: Path) -> None:
    assert codes(project(tmp_path, imports, {"helper.py": "import pandas"})) == ["KIT502"]


def test_a_package_above_the_import_root_is_found_with_what_to_write(tmp_path: Path) -> None:
    files = {"pyproject.toml": "", "corp/tools/calc.py": "def add(a, b): return a + b"}
    project(tmp_path, "", files)
    (tmp_path / "flows").mkdir()
    agent = tmp_path / "flows" / "agent.py"
    agent.write_text(FLOW.format(imports="from corp.tools.calc import add"))
    (finding,) = check(agent)[0]
    assert finding.code == "KIT502" and "flows.agent:FLOW" in finding.help
    assert check(agent, None, "flows.agent")[0] == ()
