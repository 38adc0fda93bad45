"""The compiler's profile of Kubeflow Pipelines."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport

# Labels of a pod, and Argo's node names, are derived from the name.
MAX_NAME = 120

PROFILE = Profile(
    name="kubeflow",
    branches=True,
    retry="native",
    retry_pauses=True,
    waits="suspended",
    # About 95 nested groups compile and run; an `if` takes two of them.
    max_depth=40,
    start_seconds=(10, 20),
    # Each is two or three nodes of the engine's own graph, which fails beyond a few hundred.
    fan_out=100,
)

# Open-source Kubeflow refuses parameters of a run over 10,000 bytes: all of them together, Kitaru's
# own and the punctuation included.
TRANSPORT = Transport(longest_together=8_000)
