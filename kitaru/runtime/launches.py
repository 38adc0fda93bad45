"""Decides what is remembered of how an execution was started: from which version, or which build.

It is written before the first step begins, and is what later commands go on with: an execution
keeps its version wherever a tag moves meanwhile.
"""

from __future__ import annotations

from kitaru.runtime.ledger import Ledger
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id
from kitaru.wire.records import LaunchRecord


def remember(store: Store, exec_id: str, launch: LaunchRecord) -> LaunchRecord:
    """Note what an execution is started from, once; return what is noted."""
    return Ledger(store).write(keys.launch(check_execution_id(exec_id)), launch)


def recall(store: Store, exec_id: str) -> LaunchRecord | None:
    """Return what an execution was started from, None where nobody noted it."""
    return Ledger(store).read(LaunchRecord, keys.launch(check_execution_id(exec_id)))


def version(store: Store, exec_id: str) -> str:
    """Return the version that an execution runs, such as `v3`, empty where it is none."""
    launch = recall(store, exec_id)
    return f"v{launch.deployment}" if launch and launch.deployment else ""
