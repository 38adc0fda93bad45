"""Read a state machine with statelint, the linter of the States Language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def problems(path: Path) -> Iterator[str]:
    """Yield what statelint says of a state machine."""
    words = [sys.executable, "-m", "statelint", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        yield from (line for line in (done.stdout + done.stderr).splitlines() if line.strip())
