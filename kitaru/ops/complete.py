"""Complete an execution here whose remaining code calls nothing durable."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import StateError

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.wire.plan import Plan


def complete_here(journal: Journal) -> bool:
    """Run the code after an answered wait on this machine. Return whether the execution ended.

    Only where nothing durable can be called any more: the rest of the flow's body is what a
    container would be started for. Where this machine lacks what the code imports, or the store
    lacks the code, nothing is recorded and a run of the service does it.
    """
    from kitaru_targets import bundle, registry, residual_build
    from kitaru_targets.local import submit as local

    if journal.execution.target == registry.LOCAL:
        return False
    try:
        plan = residual_build.left(residual_build.kept(journal), journal).plan
    except StateError:
        return False
    if not _is_plain(plan):
        return False
    from kitaru_targets.common.parameters import EXECUTION, STORE

    with tempfile.TemporaryDirectory(prefix="kitaru-rest-") as made:
        target = registry.get(registry.LOCAL)
        build = residual_build.stored(journal, target, Path(made) / "rest")
        folder = Path(made) / "bundle"
        bundle.unpack(bundle.contents(build.read("bundle.zip")), folder)
        document = json.loads(build.read(build.target.document))
        given = {STORE: journal.store.url, EXECUTION: journal.exec_id}
        local.run(document, folder, given).popen.wait()
    return journal.end() is not None or journal.state().status == "failed"


_PLAIN = frozenset({"join", "return"})


def _is_plain(plan: Plan) -> bool:
    """Return whether the blocks of a residual plan make no durable call after the wait."""
    (first, *others) = plan.steps
    if others:
        return False
    start, *rest = (plan.block(name) for name in first.blocks)
    asks = start.kind == "wait" and start.calls == ("wait",)
    return asks and all(block.kind in _PLAIN and not block.calls for block in rest)
