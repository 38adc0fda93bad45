"""An exported execution is the same in another store: shown, compared, replayed, continued."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, memory
from kitaru.errors import NotFound, RecordCorrupt, RecordTooNew, StateError, UsageError
from kitaru.ops import export as exporting
from kitaru.ops.export import export, import_execution
from kitaru.stores.memory import MemoryStore
from kitaru.testing import FlowTest
from kitaru.wire import keys
from tests import forks

runs: list[str] = []


@checkpoint
def research(topic: str) -> str:
    runs.append(topic)
    kitaru.save("raw", b"\x00\xff" * 50_000)
    return kitaru.llm(f"Research {topic}", model="fast") * 10_000


@flow
def review(topic: str) -> str:
    text = research(topic)
    memory.set("last", topic)
    approved = kitaru.wait(name="approve", schema=bool)
    return f"{len(text)} {approved}"


@pytest.fixture
def waiting(flow_test: FlowTest) -> Any:
    """An execution that waits, with large values, a model call and an artifact."""
    runs.clear()
    flow_test.script("fast", ["A brief."])
    return flow_test.run(review, "kayaks")


def shown(store: Any, exec_id: str) -> dict[str, Any]:
    return KitaruClient(store).executions.get(exec_id).to_dict()


def test_an_imported_execution_is_the_same(waiting: Any, flow_test: FlowTest) -> None:
    document = json.loads(json.dumps(export(flow_test.store, waiting.exec_id)))
    other = MemoryStore()
    assert import_execution(other, document) == waiting.exec_id
    assert shown(other, waiting.exec_id) == shown(flow_test.store, waiting.exec_id)
    assert document["execution"] == shown(other, waiting.exec_id)
    client = KitaruClient(other)
    assert [item["exec_id"] for item in client.executions.page().items] == [waiting.exec_id]
    (raw,) = client.artifacts.list(waiting.exec_id, name="raw")
    assert raw.load() == b"\x00\xff" * 50_000
    assert client.verify_store().findings == ()


def test_it_continues_where_it_is_imported(waiting: Any, flow_test: FlowTest) -> None:
    other = MemoryStore()
    import_execution(other, export(flow_test.store, waiting.exec_id))
    client = KitaruClient(other)
    client.executions.input(waiting.exec_id, value=True)
    assert review.resume(waiting.exec_id, store=other).wait() == "80000 True"
    assert runs == ["kayaks"]
    # The first store does not know.
    assert flow_test.executions[0].status == "waiting"


def test_a_replay_brings_the_values_of_its_source(waiting: Any, flow_test: FlowTest) -> None:
    flow_test.answer("approve", True)
    flow_test.resume(waiting)
    handle = review.replay(waiting.exec_id, start="approve", results={"approve": False})
    assert handle.wait() == "80000 False"
    other = MemoryStore()
    import_execution(other, export(flow_test.store, handle.exec_id))
    view = KitaruClient(other).executions.get(handle.exec_id)
    assert view.result == "80000 False"
    assert [one.load() for one in view.artifacts[:2]] == [b"\x00\xff" * 50_000, "A brief." * 10_000]
    with pytest.raises(NotFound):
        KitaruClient(other).executions.get(waiting.exec_id)


def test_importing_again_changes_nothing(waiting: Any, flow_test: FlowTest) -> None:
    document = export(flow_test.store, waiting.exec_id)
    import_execution(flow_test.store, document)
    flow_test.answer("approve", True)
    flow_test.resume(waiting)
    # Later records of the store stay.
    assert import_execution(flow_test.store, document) == waiting.exec_id
    assert flow_test.executions[0].result == "80000 True"


def test_another_execution_with_the_id(waiting: Any, flow_test: FlowTest) -> None:
    document = export(flow_test.store, waiting.exec_id)
    other = MemoryStore()
    key = next(key for key in document["objects"] if "/inv/" in key)
    other.create(key, b"something else")
    with pytest.raises(StateError, match="another execution"):
        import_execution(other, document)
    assert other.list("") == [key]


def test_a_process_that_dies_while_importing(waiting: Any, flow_test: FlowTest) -> None:
    document = export(flow_test.store, waiting.exec_id)

    class Dying(MemoryStore):
        def create(self, key: str, value: bytes) -> bool:
            if len(self.list("")) == 3:
                raise KeyboardInterrupt
            return super().create(key, value)

    other = Dying()
    with pytest.raises(KeyboardInterrupt):
        import_execution(other, document)
    with pytest.raises(NotFound):
        KitaruClient(other).executions.get(waiting.exec_id)


def test_another_process_that_imports_at_the_same_time(waiting: Any, flow_test: FlowTest) -> None:
    document = export(flow_test.store, waiting.exec_id)

    class Racing(MemoryStore):
        def create(self, key: str, value: bytes) -> bool:
            if "/inv/" in key and self.get(key) is None:
                super().create(key, b"another execution's")
            return super().create(key, value)

    other = Racing()
    with pytest.raises(StateError, match="another execution"):
        import_execution(other, document)
    assert other.get(keys.execution(waiting.exec_id)) is None


def edited(document: dict[str, Any], kind: str) -> dict[str, Any]:
    key = next(key for key in document["objects"] if kind in key)
    value = document["objects"][key]
    text = value if isinstance(value, str) else value["base64"]
    changed = text[:30] + ("A" if text[30] != "A" else "B") + text[31:]
    new = changed if isinstance(value, str) else {"base64": changed}
    return {**document, "objects": {**document["objects"], key: new}}


@pytest.mark.parametrize("kind", ["/inv/", "/blob/", "/execution"])
def test_a_changed_document(kind: str, waiting: Any, flow_test: FlowTest) -> None:
    document = edited(export(flow_test.store, waiting.exec_id), kind)
    other = MemoryStore()
    with pytest.raises(RecordCorrupt, match=kind):
        import_execution(other, document)
    assert other.list("") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda d: [],
        lambda d: {},
        lambda d: {**d, "execution": {}},
        lambda d: {**d, "execution": {"exec_id": "../other"}},
        lambda d: {**d, "objects": []},
        lambda d: {**d, "objects": {}},
        lambda d: {**d, "objects": {**d["objects"], "memory/flow/review/key/x": "1"}},
        lambda d: {**d, "objects": {**d["objects"], "x/other/execution": "1"}},
        lambda d: {**d, "objects": {**d["objects"], "index/1/other/0/failed/f": ""}},
        lambda d: {**d, "objects": {**d["objects"], "x/../y": "1"}},
        lambda d: {**d, "objects": {k: {"base64": "!"} for k in d["objects"]}},
    ],
)
def test_what_is_no_export(change: Any, waiting: Any, flow_test: FlowTest) -> None:
    document = export(flow_test.store, waiting.exec_id)
    other = MemoryStore()
    with pytest.raises(UsageError, match="no exported execution"):
        import_execution(other, change(document))
    assert other.list("") == []


def test_a_newer_format(waiting: Any, flow_test: FlowTest) -> None:
    document = {**export(flow_test.store, waiting.exec_id), "format": 2}
    with pytest.raises(RecordTooNew, match="format 2"):
        import_execution(MemoryStore(), document)


def test_a_missing_value(waiting: Any, flow_test: FlowTest) -> None:
    store = flow_test.store
    store.delete(next(k for k in store.list(keys.home(waiting.exec_id)) if "/blob/" in k))
    with pytest.raises(RecordCorrupt, match="/blob/"):
        export(store, waiting.exec_id)


def test_a_large_execution(
    waiting: Any, flow_test: FlowTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MAX_EXPORT_BYTES", 50_000)
    with pytest.raises(StateError, match="more than 50,000 bytes") as refused:
        export(flow_test.store, waiting.exec_id)
    assert "kitaru store backup" in refused.value.help


STORE = ("--store", "sqlite:a.db")
FLOW = """
import kitaru

@kitaru.checkpoint
def one() -> int:
    return 1

@kitaru.flow
def count() -> int:
    return one() + 1
"""


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(FLOW)

    def kitaru(*words: str, input: str = "", code: int = 0) -> str:
        command = [sys.executable, "-m", "kitaru", *words]
        done = forks.run(command, cwd=tmp_path, env=dict(os.environ), input=input, timeout=240)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if not code else done.stderr

    kitaru("run", "count.py", *STORE)
    (exec_id,) = [
        item["exec_id"]
        for item in json.loads(kitaru("executions", "list", *STORE, "--json"))["items"]
    ]
    text = kitaru("executions", "export", exec_id[:8], *STORE)
    assert json.loads(text)["execution"]["result"] == 2
    kitaru("executions", "export", exec_id, "-o", "run.json", *STORE)
    assert (tmp_path / "run.json").read_text() == text
    assert kitaru("executions", "import", "run.json", "--store", "sqlite:b.db") == f"{exec_id}\n"
    assert (
        kitaru("executions", "import", "-", "--store", "sqlite:c.db", input=text).strip() == exec_id
    )
    assert "same" in kitaru("executions", "diff", exec_id, exec_id, "--store", "sqlite:b.db")
    told = kitaru("executions", "import", "-", "--store", "sqlite:c.db", input="{", code=2)
    assert "is not JSON" in told
