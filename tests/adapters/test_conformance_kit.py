"""The conformance kit: an adapter that is right passes it, and each faulty one fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kitaru.errors import UsageError
from kitaru.testing.adapters import AdapterTests, Harness, processes
from kitaru.testing.adapters.kept import read_kept, restore
from tests.adapters import loop_harness


@pytest.mark.slow
class TestLoop(AdapterTests):
    harness = loop_harness.Loop
    seeds = 2


FAULTS: dict[type[Harness], tuple[Callable[..., Any], tuple[Any, ...]]] = {
    loop_harness.Unrecorded: (AdapterTests.test_each_call_has_one_record, ("alone",)),
    loop_harness.Numbered: (AdapterTests.test_killed_at_each_call, ("pair", "begin")),
    loop_harness.Hasty: (AdapterTests.test_approved_tools_run_after_the_answer, ()),
    loop_harness.Forgetful: (AdapterTests.test_killed_at_each_call, ("state", "end")),
    loop_harness.Whole: (AdapterTests.test_each_call_has_one_record, ("nested",)),
    loop_harness.Doubling: (AdapterTests.test_requests_are_retried_by_one_setting, ()),
}


@pytest.mark.parametrize("faulty", FAULTS, ids=lambda faulty: faulty.__name__)
def test_a_faulty_adapter_fails(faulty: type[Harness]) -> None:
    class Faulty(AdapterTests):
        harness = faulty

    test, arguments = FAULTS[faulty]
    with Faulty.runs() as world, pytest.raises(AssertionError):
        test(Faulty(), *arguments, world)


KEPT = {"version": "loop 1", "objects": {"a/b": "Yg=="}}
DAMAGED = {
    "cut": json.dumps(KEPT)[:-3],
    "no object": "[]",
    "no version": json.dumps({"objects": {}}),
    "no objects": json.dumps({"version": "loop 1"}),
    "a list of objects": json.dumps(KEPT | {"objects": []}),
    "a body that is no text": json.dumps(KEPT | {"objects": {"a": 1}}),
    "a body that is not base64": json.dumps(KEPT | {"objects": {"a": "Yg=*"}}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_kept_records_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "1.0.json"
    path.write_text(json.dumps(KEPT))
    assert read_kept(path) == ("loop 1", {"a/b": b"b"})
    path.write_text(text)
    with pytest.raises(UsageError, match=r"1\.0\.json contains no kept records"):
        restore(path, "memory:kept")


def test_a_process_that_hangs_shows_its_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stuck())
        await asyncio.sleep(0)
        processes._explain_hang()
        task.cancel()

    asyncio.run(main())
    shown = capfd.readouterr().err
    assert "test_conformance_kit.py" in shown and "in stuck" in shown
