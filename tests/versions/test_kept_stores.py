"""Stores that earlier releases wrote are read, resumed and replayed by this one."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.errors import RecordTooNew
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import envelope
from kitaru.wire.canonical import dumps
from tests.versions.kept import FLOW, KINDS, STORES, Bucket, sample
from tests.versions.matrix import forget

RELEASES = sorted(path.name for path in STORES.iterdir() if (path / "kitaru.db").exists())
SHAPES = [(release, shape) for release in RELEASES for shape in ("kitaru.db", "bucket")]


@pytest.fixture(params=SHAPES, ids="-".join)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of a kept store, in a folder that has the flow's file."""
    release, shape = request.param
    forget()
    monkeypatch.delitem(sys.modules, "kept_flow", raising=False)
    shutil.copy(FLOW, tmp_path)
    monkeypatch.chdir(tmp_path)
    if shape == "kitaru.db":
        shutil.copy(STORES / release / shape, tmp_path)
        return open_store(f"sqlite:{tmp_path / shape}")
    return bucket(release)


def bucket(release: str) -> MemoryStore:
    store, root = Bucket(f"memory:{release}"), STORES / release / "bucket"
    for file in sorted(root.rglob("*")):
        if file.is_file():
            store.create(file.relative_to(root).as_posix(), file.read_bytes())
    return store


def ran() -> list[str]:
    path = Path("calls.txt")
    return path.read_text().split() if path.exists() else []


def test_every_kind_of_record_is_read(store: Store) -> None:
    read = [envelope.decode(key, store.get(key) or b"") for key in store.list(KINDS)]
    assert len(read) >= 17
    for record in read:
        kind = envelope._KIND_OF[type(record)]
        whole = sample(kind)
        for name in type(record).__match_args__:
            given, default = getattr(record, name), type(record)._defaults.get(name)
            wanted = getattr(whole, name)
            # A field that the release did not have is its default.
            assert _plain(given) == _plain(wanted) or given in (default, (), {}), (kind, name)


def _plain(value: object) -> str:
    """Return a value as text in which tuples and lists are alike, as they are in JSON."""
    return json.dumps(value, default=str, sort_keys=True)


def test_all_are_listed_and_shown(store: Store) -> None:
    client = KitaruClient(store)
    found = {item["exec_id"]: item["status"] for item in client.executions.list()}
    assert found["done"] == "completed"
    assert found["waits"] == "waiting"
    assert found["failed"] == "failed"
    for exec_id in found:
        json.dumps(client.executions.get(exec_id).to_dict())


def test_a_waiting_one_is_answered_and_completes(store: Store) -> None:
    handle = KitaruClient(store).executions.input("waits", True)
    assert handle.wait(60) == "published owls: 70000, not reviewed"
    assert ran() == ["publish"]


def test_a_failed_one_is_retried(store: Store) -> None:
    Path("repaired").touch()
    client = KitaruClient(store)
    assert client.executions.retry("failed").settle(60) == "waiting"
    assert client.executions.input("failed", True).wait(60).endswith("reviewed cats")
    assert ran() == ["review", "publish"]


def test_a_completed_one_is_replayed(store: Store) -> None:
    handle = KitaruClient(store).executions.replay("done", start="publish")
    assert handle.wait(60) == "published dogs: 70000, not reviewed"
    assert ran() == ["publish"]


def test_memory_and_artifacts_are_read(store: Store) -> None:
    client = KitaruClient(store)
    tone = {"of": "dogs", "words": ["dry", "short"]}
    assert client.memory.get("tone", scope="flow:kept") == tone
    artifact = client.executions.get("done").invocations[0].artifacts[0]
    assert Journal.open(store, "done").fetch(artifact["value"]) == ["dogs", "a book"]


def test_a_newer_release_is_named_and_nothing_is_called_damaged(store: Store) -> None:
    journal = Journal.open(store, "waits")
    key = f"x/waits/{'inv'}/publish"
    newer = {
        "body": {"new": 1}, "key": key, "kind": "novel", "schema": envelope.RECORD_SCHEMA + 1,
        "writer": "w",
    }  # fmt: skip
    line = dumps(newer)
    store.create(key, line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")
    with pytest.raises(RecordTooNew) as caught:
        journal.invocation("publish")
    assert "newer release" in caught.value.message and "damaged" in caught.value.message
    assert "Upgrade Kitaru" in caught.value.help


def test_this_schema_has_a_kept_store() -> None:
    """A release that changes the records adds its stores: `python -m tests.versions.kept X`."""

    def schema(release: str) -> int:
        data = (STORES / release / "bucket" / KINDS / "execution").read_bytes()
        return int(json.loads(data[:-66])["schema"])

    assert envelope.RECORD_SCHEMA in map(schema, RELEASES)
    newest = {p.name for p in (STORES / RELEASES[-1] / "bucket" / KINDS).iterdir()}
    assert newest == set(envelope._KINDS)
