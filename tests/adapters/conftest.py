"""Leave the tests of harnesses that have an environment of their own to that environment."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tests import forks

# The folder of the tests of each such harness, and the module that it needs.
_NEEDS = {
    "claude_agent_sdk": "claude_agent_sdk",
    "google_adk": "google.adk",
    "openai_agents": "agents",
}


def _is_absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


_FOLDERS = {Path(__file__).parent / folder: module for folder, module in _NEEDS.items()}
forks.preloaded += [module for module in _FOLDERS.values() if not _is_absent(module)]
collect_ignore = [str(folder) for folder, module in _FOLDERS.items() if _is_absent(module)]
if not any(folder.is_dir() for folder in _FOLDERS):
    # A test without parameters counts as skipped.
    collect_ignore.append("test_environments.py")
