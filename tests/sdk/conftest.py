"""Fixtures of the SDK tests: a store for each test, and flows in separate files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put every test's executions into a separate store."""
    url = f"sqlite:{tmp_path / 'store' / 'kitaru.db'}"
    monkeypatch.setenv("KITARU_STORE", url)
    monkeypatch.chdir(tmp_path)
    return url


@dataclass(frozen=True)
class Script:
    """A flow's file, and processes that use it."""

    file: Path
    store: str

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start Python code in which `flows` is the file's module and `client` a client."""
        head = (
            "import json, sys, time; sys.path.insert(0, '.')\n"
            f"import {self.file.stem} as flows\n"
            "from kitaru import KitaruClient; client = KitaruClient()\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", head + code],
            cwd=self.file.parent,
            env={**os.environ, "KITARU_STORE": self.store},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str) -> tuple[int, str, str]:
        process = self.start(code)
        output, log = process.communicate(timeout=240)
        return process.returncode, output.strip(), log

    def calls(self) -> list[str]:
        path = self.file.parent / "calls.txt"
        return path.read_text().split() if path.exists() else []

    def answer(self, exec_id: str, value: Any) -> str:
        """Answer from another process; return the final status."""
        code = (
            f"handle = client.executions.input({exec_id!r}, json.loads({json.dumps(value)!r}))\n"
            "print(handle.settle())"
        )
        code_, output, log = self.run(code)
        assert code_ == 0, log
        return output


@pytest.fixture
def script(tmp_path: Path, store: str) -> Callable[[str], Script]:
    """Return a function that writes a flow's file."""

    def write(source: str) -> Script:
        file = tmp_path / "flow_file.py"
        file.write_text(source)
        return Script(file, store)

    return write
