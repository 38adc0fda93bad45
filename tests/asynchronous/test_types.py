"""The types of flows and checkpoints, as mypy and pyright see them.

mypy says that an `async def` returns a `Coroutine`; pyright, which VS Code uses, says that it
returns a `CoroutineType`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USES = ROOT / "tests" / "asynchronous" / "typed_uses.py"
PYRIGHT = ROOT / ".envs" / "pyright" / "node_modules" / ".bin" / "pyright"


def test_mypy_accepts_correct_uses_only() -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", str(USES.relative_to(ROOT))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not PYRIGHT.exists(), reason="no pyright in .envs: run dev.py test")
def test_pyright_accepts_correct_uses_only(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": ["typed_uses.py"],
                "extraPaths": [str(ROOT)],
                # An incorrect use must be an error, and not be ignored.
                "enableTypeIgnoreComments": False,
                "pythonVersion": "3.11",
            }
        )
    )
    (tmp_path / "typed_uses.py").write_text(USES.read_text("utf-8"))
    command = [str(PYRIGHT), "--project", str(config), "--outputjson"]
    command += ["--pythonpath", sys.executable]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout)["generalDiagnostics"]
    lines = USES.read_text("utf-8").splitlines()
    incorrect = {number for number, line in enumerate(lines, 1) if "# type: ignore" in line}
    assert len(incorrect) > 5
    assert {one["range"]["start"]["line"] + 1 for one in found} == incorrect, found
