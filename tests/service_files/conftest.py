"""The files with which the service is run, and the tools that check them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def tool(environment: str, name: str) -> str:
    """Return a program of an environment of `dev.py test`. Skip the test without it."""
    found = ROOT / ".envs" / environment / "bin" / name
    if not found.exists():
        pytest.skip(f"no {name} here: python3 dev.py test installs it")
    return str(found)


def command() -> Path:
    """Return the command `kitaru` of this environment."""
    return Path(sys.executable).with_name("kitaru")
