"""Killed anywhere in a replay: it is not there or it is whole, and what it adopted never runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.stores import open_store
from tests.sdk.conftest import Script
from tests.step.build import end_zygote, zygote
from tests.waiting import attempts

SOURCE = """\
from pathlib import Path

from kitaru import checkpoint, flow


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def first():
    note("first")
    return "x" * 100_000


@checkpoint
def second(text):
    note("second")
    return len(text)


@checkpoint
def third(number):
    note("third")
    return number + 1


@flow
def chain():
    text = first()
    futures = [second.submit(text), second.submit(text + "y")]
    return third(sum(future.result() for future in futures))
"""
RUN = "import flow_file; flow_file.chain.options(exec_id='e1').run().wait()"
REPLAY = """
from kitaru import KitaruClient
from kitaru.stores import open_store
found = {key.split("/")[1] for key in open_store().list("x/") if key.endswith("/execution")}
client = KitaruClient().executions
begun = sorted(found - {"e1"})
handle = client.resume(begun[0]) if begun else client.replay("e1", start="second_2")
assert handle.wait() == 200_002
"""


@pytest.fixture(autouse=True, scope="module")
def _no_process_left() -> Iterator[None]:
    yield
    end_zygote()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_store_operation(
    tmp_path: Path, script: Callable[[str], Script], moment: str
) -> None:
    flows = script(SOURCE)
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(flows.file, begun)

    def run(folder: Path, kill: str, code: str) -> int:
        url = f"sqlite:{folder / 'store.db'}"
        body = f"import os; os.environ['KITARU_STORE'] = {url!r}\n{code}"
        return zygote(str(folder), str(folder / "log.txt"), kill, body)

    assert run(begun, "", RUN) == 0, (begun / "log.txt").read_text()
    before = records(begun)
    for number in attempts():
        folder = tmp_path / f"at-{number}"
        shutil.copytree(begun, folder)
        (folder / "calls.txt").unlink()
        code = run(folder, f"{moment}:{number}", REPLAY)
        assert code in (0, -9), (folder / "log.txt").read_text()
        assert run(folder, "", REPLAY) == 0, (folder / "log.txt").read_text()
        calls = (folder / "calls.txt").read_text().split()
        # Only what was under way when it was killed runs twice.
        assert calls.count("first") == 0
        assert calls.count("second") <= 2 and calls.count("third") <= 2
        after = records(folder)
        assert {key: after[key] for key in before} == before, "the source changed"
        client = KitaruClient(f"sqlite:{folder / 'store.db'}").executions
        (exec_id,) = {item["exec_id"] for item in client.each()} - {"e1"}
        view = client.get(exec_id)
        assert view.result == 200_002
        found = {r.id: bool(r.adopted_from) for r in view.invocations}
        assert found == {"first": True, "second": True, "second_2": False, "third": False}
        if code == 0:
            break
    assert number > 15


def records(folder: Path) -> dict[str, bytes | None]:
    store = open_store(f"sqlite:{folder / 'store.db'}")
    found = {key: store.get(key) for key in store.list("x/e1/")}
    store.close()
    return found
