"""Write the document for Vertex AI Pipelines."""

from __future__ import annotations

from kitaru.wire.plan import Plan
from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import node_names
from kitaru_targets.kfp import document
from kitaru_targets.vertex.profile import MAX_NAME


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `pipeline.yaml` for a plan; raise UsageError if a name is not valid in it."""
    return document.emit(plan, wiring, longest_name=MAX_NAME, longest_key=node_names.MAX_KEY)
