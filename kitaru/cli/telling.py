"""Decides how the orchestrator that an execution runs on learns of an answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output
from kitaru.config import setting

if TYPE_CHECKING:
    from kitaru.runtime.journal import Journal


def tell(journal: Journal, value: Any, output: Output) -> bool:
    """Let a run that its orchestrator parked go on; say whether there is such a run.

    Raises EnvironmentFailure when the orchestrator cannot be told; the answer is recorded anyway.
    """
    from kitaru_targets import registry

    record = journal.execution
    answered = registry.get(record.target).answered if record.target else None
    if answered is None:
        return False
    title = registry.get(record.target).title
    url = setting(f"{record.target}_url").value
    if not url:
        output.note(
            f"recorded; any response on the page of {title} lets the run go on with it, and with "
            f"KITARU_{record.target.upper()}_URL this command gives one"
        )
        return True
    token = os.environ.get(f"KITARU_{record.target.upper()}_TOKEN", "")
    if not answered(record.run, value, {"url": url, **({"token": token} if token else {})}):
        return False
    output.note(f"told {title}: the run goes on")
    return True
