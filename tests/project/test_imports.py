"""Decides what `import kitaru`, which every step waits for, leaves to those who use it."""

from __future__ import annotations

import subprocess
import sys

DEAR = (
    "argparse",
    "ast",
    "asyncio",
    "dataclasses",
    "inspect",
    "kitaru.client",
    "logging",
    "sqlite3",
)


def test_import_kitaru_leaves_alone_what_takes_long() -> None:
    program = f"import sys, kitaru; print([m for m in {DEAR} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
