"""Write the document for Vertex AI Pipelines."""

from __future__ import annotations

from kitaru.wire.plan import Plan
from kitaru.wire.structs import replace
from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import json_format, node_names, options, schedules
from kitaru_targets.kfp import document
from kitaru_targets.vertex.profile import (
    ACCELERATOR,
    DEFAULT_ACCELERATOR,
    MAX_NAME,
    OPTIONS,
    SCHEDULE,
)

# As many runs as a project has by default.
_UNLIMITED = 300


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `pipeline.yaml` for a plan.

    Raises UsageError if a name, or one of the project's options for the target, is not valid in it.
    """
    options.check("vertex", plan.options, OPTIONS)
    made = document.emit(
        plan,
        wiring,
        longest_name=MAX_NAME,
        longest_key=node_names.MAX_KEY,
        gpu=plan.options.get(ACCELERATOR, DEFAULT_ACCELERATOR),
    )
    return replace(made, files=_schedule(plan, wiring))


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, str]:
    """Return the options of the schedule, by the name of their file."""
    planned = schedules.native(plan, wiring)
    if planned is None:
        return {}
    chosen = {
        "display_name": schedules.schedule_id(plan),
        "cron": f"TZ={planned.timezone} {planned.cron}",
        "max_concurrent_run_count": _UNLIMITED if planned.overlap == "allow" else 1,
        "allow_queueing": planned.overlap == "queue",
    }
    return {SCHEDULE: f"{json_format.dump(chosen)}\n"}
