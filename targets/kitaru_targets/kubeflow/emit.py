"""Write the document for Kubeflow Pipelines."""

from __future__ import annotations

from kitaru.wire.plan import Plan
from kitaru_targets.base import ContainerSpec, Emission
from kitaru_targets.common import kubernetes, node_names, options
from kitaru_targets.kfp import document
from kitaru_targets.kubeflow import platform
from kitaru_targets.kubeflow.profile import MAX_NAME, OPTIONS


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `pipeline.yaml` for a plan; raise UsageError if a name or option is not valid."""
    options.check("kubeflow", plan.options, OPTIONS)
    pod = kubernetes.pod(plan)
    return document.emit(
        plan,
        wiring,
        longest_name=MAX_NAME,
        longest_key=node_names.MAX_KEY,
        second=lambda executors: platform.document(pod, executors),
    )
