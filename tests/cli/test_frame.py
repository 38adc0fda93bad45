"""The command line as such: help, versions, what they import, and how errors come out."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from .conftest import Kitaru

HEAVY = [
    "kitaru_compiler",
    "kitaru_targets",
    "kitaru_templates",
    "networkx",
    "jinja2",
    "pydantic",
    "rich",
    "litellm",
    "obstore",
    "asyncio",
    "sqlite3",
]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["compile", "--help"], ["executions", "--help"]],
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from kitaru.cli.app import run\n"
        f"code = run({arguments!r})\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_version(kitaru: Kitaru) -> None:
    assert kitaru("--version").out == f"kitaru {version('kitaru')}\n"


def test_help_lists_every_command_and_the_exit_codes(kitaru: Kitaru) -> None:
    text = kitaru("--help").out
    for command in ("run", "compile", "check", "explain", "dry-run", "executions", "target"):
        assert f"\n  {command} " in text
    assert "3 environment" in text


def test_no_command_is_usage(kitaru: Kitaru) -> None:
    assert "Usage: kitaru" in kitaru(code=2).err


def test_an_unknown_command_names_the_nearest(kitaru: Kitaru) -> None:
    done = kitaru("comple", code=2)
    assert (done.out, done.err) == (
        "",
        "error: There is no command 'comple'.\nhelp: kitaru compile --help\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["comple"],
        ["run"],
        ["run", "a.py", "--nonsense"],
        ["compile", "a.py"],
        ["compile", "a.py", "--target", "vertex", "--granularity", "fine"],
        ["executions", "list", "--limit", "0"],
        ["executions", "sing"],
        ["explain", "KIT999x"],
    ],
)
def test_usage_errors_are_json_when_json_was_asked_for(
    arguments: list[str], kitaru: Kitaru
) -> None:
    error = kitaru(*arguments, "--json", code=2).error
    assert error["exit_code"] == 2
    assert error["message"]
    assert error["help"]


def test_what_stdout_cannot_show_is_escaped(kitaru: Kitaru) -> None:
    done = kitaru("näh\N{SNOWMAN}", code=2, PYTHONIOENCODING="ascii")
    assert "n\\xe4h\\u2603" in done.err


def test_a_reader_that_stops_reading_is_no_error(kitaru: Kitaru) -> None:
    program = f"{sys.executable} -m kitaru explain | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, cwd=kitaru.folder
    )
    assert done.stderr == ""
    assert done.stdout.endswith("0\n")


def test_init_starts_a_project_once(kitaru: Kitaru) -> None:
    document = kitaru("init", "new", "--json").document
    assert document["files"] == ["review_flow.py", "pyproject.toml", ".gitignore"]
    compile((kitaru.folder / "new" / "review_flow.py").read_text(), "review_flow.py", "exec")
    again = kitaru("init", "new", "--json", code=2).error
    assert "exists already" in again["message"]


def test_init_leaves_files_alone(kitaru: Kitaru) -> None:
    before = (kitaru.folder / "pyproject.toml").read_text()
    assert "kitaru run review_flow.py" in kitaru("init").out
    assert (kitaru.folder / "pyproject.toml").read_text() == before


INTERRUPTED = """
from kitaru.cli import app, main


def run(arguments):
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        return 130


app.run = run
main()
"""


def test_a_handled_interruption_does_not_replace_the_exit_code(kitaru: Kitaru) -> None:
    kitaru.write("interrupted.py", INTERRUPTED)
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=kitaru.folder, env=kitaru.environ, capture_output=True)
    assert done.returncode == 130
