"""Fixtures of the command line tests: the real command, in a separate process.

The process is a fork. A test of the start of the process uses `command` with `subprocess`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import forks


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the last line of stderr; stdout must be empty."""
        assert self.out == ""
        error: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return error


class Kitaru:
    """Runs `kitaru …` in a separate folder without a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        self.environ = {**kept, "XDG_CONFIG_HOME": str(folder / "xdg"), "NO_COLOR": "1"}

    def __call__(self, *arguments: str, code: int | None = 0, stdin: str = "", **env: str) -> Done:
        done = self._run(arguments, stdin, env)
        assert code is None or done.code == code, done
        assert "Traceback (most recent call last)" not in done.err or code == 1, done.err
        return done

    def each(self, commands: Sequence[Sequence[str]], *, stdin: str = "", **env: str) -> list[Done]:
        """Run commands one after the other, regardless of their exit codes."""
        return [self._run(command, stdin, env) for command in commands]

    def _run(self, arguments: Sequence[str], stdin: str, env: Mapping[str, str]) -> Done:
        ran = forks.run(
            self.command(arguments), cwd=self.folder, env={**self.environ, **env}, input=stdin,
            timeout=240,
        )  # fmt: skip
        return Done(ran.returncode, ran.stdout, ran.stderr)

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "kitaru", *arguments]

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def kitaru(tmp_path: Path) -> Kitaru:
    (tmp_path / "pyproject.toml").write_text("[tool.kitaru]\n")
    return Kitaru(tmp_path)
