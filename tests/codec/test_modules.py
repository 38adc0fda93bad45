"""A script and the same file imported are recorded under one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from dataclasses import dataclass
from kitaru.runtime.codec import decode, encode

@dataclass
class Brief:
    text: str

if __name__ == "__main__":
    print(json.dumps(encode(Brief("x"))))
    assert type(decode(encode(Brief("x")))) is Brief
"""


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("start", [["pkg/flow.py"], ["-m", "pkg.flow"]])
def test_scripts_and_modules(start: list[str], tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "flow.py").write_text(SCRIPT)
    document = run(*start, cwd=tmp_path)
    assert '["pkg.flow", "Brief"]' in document
    reader = "import sys, json; from kitaru.runtime.codec import decode;"
    reader += f"print(decode(json.loads({document!r})))"
    assert run("-c", reader, cwd=tmp_path).strip() == "Brief(text='x')"
