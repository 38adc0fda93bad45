"""Records that another version of a harness wrote."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from kitaru import harness
from kitaru.errors import KitaruError
from kitaru.testing.adapters import conversations
from kitaru.testing.adapters.harness import Harness
from kitaru.testing.adapters.script import world

_EXEC_ID = "versions"


def error_about_version(used: Harness, version: str) -> str:
    """Return the error of an execution whose first record is from `version` of the harness."""
    before = conversations.used[:]
    conversations.used[:] = [used]
    try:
        with TemporaryDirectory() as folder:
            store = f"sqlite:{folder}/k.db"
            flow = conversations.conversation_flow.options(
                store=store, exec_id=_EXEC_ID, cache=False
            )
            with patch.object(world, "log", Path(folder) / "calls"):
                with patch.object(harness, "step", _Other(version).step):
                    _error(flow.run("alone"))
                return _error(flow.run("alone"))
    finally:
        conversations.used[:] = before


def _error(handle: Any) -> str:
    try:
        handle.wait()
    except KitaruError as error:
        return f"{error}\n{error.help}"
    raise AssertionError("The record of another version was read as if it were of this one.")


class _Other:
    """Makes steps as another version does: with another value."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._step = harness.step

    def step(self, name: str, body: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        title = str(options.get("version") or "").rpartition(" ")[0]

        async def other() -> Any:
            await body()
            return {"written by": self._version}

        options["version"] = f"{title} {self._version}"
        return self._step(name, other, **options)
