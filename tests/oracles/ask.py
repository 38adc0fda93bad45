"""Call a vendor's SDK, which is installed in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(oracle: str) -> Path:
    """Return the interpreter of the oracle's environment. Skip the test without one."""
    found = ROOT / ".envs" / oracle / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no {oracle} SDK here: python3 dev.py test installs it")
    return found


def ask(oracle: str, jobs: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """Return what the oracle says of each job; skip the test where it is not installed."""
    answers = scratch / f"{oracle}-answers.json"
    done = subprocess.run(
        [python(oracle), ROOT / "tests" / "oracles" / f"{oracle}_batch.py", answers],
        input=json.dumps(jobs),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[dict[str, Any]] = json.loads(answers.read_text())
    return found
