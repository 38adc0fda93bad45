"""The compiler's profile of Kubeflow Pipelines."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport
from kitaru_targets.common import kubernetes

# Pod labels and Argo's node names are derived from the name.
MAX_NAME = 120

OPTIONS = kubernetes.OPTIONS

# What a step becomes, in the words of the orchestrator.
UNIT = "task (one pod)"

PROFILE = Profile(
    name="kubeflow",
    branches=True,
    retry="native",
    retry_pauses=True,
    waits="suspended",
    # About 95 nested groups compile and run. An `if` takes two of them.
    max_depth=40,
    start_seconds=(10, 20),
    # Each node is two or three nodes of the engine's own graph, which fails beyond a few hundred.
    fan_out=100,
)

# Open-source Kubeflow rejects run parameters of more than 10,000 bytes in total, including Kitaru's
# own parameters and the punctuation.
TRANSPORT = Transport(longest_together=8_000, pods=True)
