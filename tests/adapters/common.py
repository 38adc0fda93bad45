"""What the tests of all adapters share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from tests.asynchronous.conftest import Runs
from tests.asynchronous.programs import Traces


@pytest.fixture(autouse=True)
def traces(tmp_path: Path) -> Iterator[None]:
    """Write what the scripted models and tools note to files of the test."""
    before = Traces.seen, Traces.ran
    with (tmp_path / "seen").open("w") as seen, (tmp_path / "ran").open("w") as ran:
        Traces.seen, Traces.ran = seen.fileno(), ran.fileno()
        yield
    Traces.seen, Traces.ran = before


def check_in_a_checkpoint(runs: Runs, ask: Callable[[], Awaitable[str]]) -> None:
    """Check that the call of an agent that says yes belongs to the checkpoint that makes it."""

    @checkpoint(cache=False)
    async def inside() -> str:
        return await ask()

    @flow
    async def one() -> str:
        return await inside()

    handle = one.run()
    assert handle.wait() == "yes"
    assert list(runs.records(handle)) == ["inside"]
    (call,) = KitaruClient().executions.calls(handle.exec_id)
    assert (call["invocation"], call["response"]) == ("inside", "yes")
