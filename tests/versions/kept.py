"""Stores of every release, kept to be read by all later ones: `stores/RELEASE/`.

    python -m tests.versions.kept 0.2      # writes stores/0.2, once, when that release is made

Each is written twice, as the SQLite file `kitaru.db` and as the objects of a bucket below
`bucket/`. Both contain executions of `stores/kept_flow.py` that wait, have failed and have
completed, a memory, and below `kinds/` one record of each kind with every field set.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from kitaru.config import configure
from kitaru.runtime.steps.modules import import_file
from kitaru.stores import open_store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import envelope, records
from kitaru.wire.records import Replay, StoredValue

STORES = Path(__file__).with_name("stores")
FLOW = STORES / "kept_flow.py"
KINDS = "kinds/"

_TEXTS = {
    "mode": "deployed", "status": "completed", "kind": "value", "started_at": "2026-01-01T00:00:00",
}  # fmt: skip
_SPECIAL: dict[str, Any] = {
    "inputs": StoredValue({"topic": "owls"}, None, 16, "sha256:1"),
    "value": StoredValue(None, "sha256:2", 70_000, "sha256:2", "Brief", outside=1),
    "result": StoredValue("done", None, 6, "sha256:3"),
    "frame": StoredValue({"a": 1}, None, 7, "sha256:4"),
    "error": records.ErrorInfo("ValueError", "no", "at line 1", "Repair it.", "draft"),
    "replay": Replay("e0", "draft", ("draft",), ("topic",), {"fast": "offline"}),
    "failure": {"type": "ValueError"},
    "artifacts": ({"name": "sources", "type": "list", "value": StoredValue([1], None, 3, "d")},),
    "calls": ({"model": "offline", "cost": None},),
    "notes": ({"line": 3, "type": "Lock"},),
    "lines": (["2026-01-01", "draft", "stdout", "hello"],),
    "schema": {"type": "boolean"},
    "uses": ("draft",), "changes": ("wait:a:b",), "unasked": ("draft",),
    "evidence": ({"name": "Draft", "invocation": "a", "value": StoredValue(None, None, 3, "d")},),
    "under_way": (["2026-01-01", "draft", "1", "flow.py:3"],),
    "progress": (["2026-01-01", "draft", 1, 2, "half"],),
    "default": (True,), "escalate": ({"at": "2026-01-02", "to": "Ann"},),
    "queue": ("2026-01-01",), "grants": ({"role": "viewer", "flows": ["kept"]},),
    "up": ("wait", "approve", "Publish?"),
    "waits": ("approve",),
    "next": "b2", "retries": 2, "files": {"plan.json": "sha256:5"},
}  # fmt: skip


class Bucket(MemoryStore):
    """A store that Kitaru treats as a bucket."""

    remote = True


def sample(kind: str) -> Any:
    """Return a record of a kind with a value in every field."""
    cls = envelope._KINDS[kind]
    made = {}
    for name in cls.__match_args__:
        type_ = str(cls.__annotations__[name])
        if kind in ("launch", "schedule") and name == "inputs":
            made[name] = {"topic": "owls"}
        elif kind in ("wait-answer", "signal") and name == "value":
            made[name] = [True]
        elif name in _SPECIAL:
            made[name] = _SPECIAL[name]
        elif type_.startswith("int"):
            made[name] = 7
        elif type_ == "bool":
            made[name] = False
        elif type_.startswith("dict"):
            made[name] = {"k": 1}
        elif kind == "invocation" and name == "kind":
            made[name] = "checkpoint"
        else:
            made[name] = _TEXTS.get(name, name)
    return cls(**made)


def fill(store: Any, folder: Path) -> None:
    """Write what a kept store contains; the flow's file is in `folder`."""
    module: Any = import_file(folder / FLOW.name, "kept_flow")
    for exec_id, topic, reviewed in (("waits", "owls", False), ("failed", "cats", True),
                                     ("done", "dogs", False)):  # fmt: skip
        handle = module.kept.options(store=store, exec_id=exec_id).run(topic, reviewed)
        status = handle.settle(60)
        if exec_id == "done":
            handle._journal.answer(records.WaitAnswer("approve", "value", True, "2026-01-01"))
            handle.wait(60)
        assert status == ("failed" if reviewed else "waiting"), status
    for kind in envelope._KINDS:
        key = f"{KINDS}{kind}"
        store.create(key, envelope.encode(key, "w", sample(kind)))


def make(release: str) -> None:
    """Write the stores of a release; one that exists is not written again."""
    target = STORES / release
    target.mkdir()
    folder = Path("/tmp/kitaru-kept")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(FLOW, folder)
    os.chdir(folder)
    configure(capture="off")
    sqlite = open_store(f"sqlite:{folder / 'kitaru.db'}")
    fill(sqlite, folder)
    bucket = Bucket("memory:kept")
    fill(bucket, folder)
    for key in bucket.list(""):
        place = target / "bucket" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bucket.get(key) or b"")
    import sqlite3

    with sqlite3.connect(folder / "kitaru.db") as db:
        db.execute("VACUUM INTO ?", (str(target / "kitaru.db"),))
    with sqlite3.connect(target / "kitaru.db") as db:
        db.execute("PRAGMA journal_mode=WAL")


if __name__ == "__main__":
    make(sys.argv[1])
