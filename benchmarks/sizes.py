"""Sizes of documents: chains of N checkpoints for each target."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

from common import Line
from compiling import flow_program
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry

COUNTS = (10, 100, 1_000)
# Limits that a service's own profile does not contain: an upload to Kubeflow Pipelines.
_UPLOAD = {"kubeflow": 32 * 1024 * 1024}


def most(name: str) -> int:
    """Return the maximum size of a document for a target in characters, 0 if there is no limit."""
    profile = import_module(f"kitaru_targets.{name}.profile")
    return profile.LIMITS.document if hasattr(profile, "LIMITS") else _UPLOAD.get(name, 0)


def measure(name: str, count: int, folder: Path) -> Line:
    source = folder / f"chain_{count}.py"
    source.write_text(flow_program(count))
    target = registry.get(name)
    made = build.write(
        compile_flow(source, profile=target.profile), target, folder / name, store="s3://bucket"
    )
    size, limit = len(made.document.read_text(encoding="utf-8")), most(name)
    steps, at_most = len(made.plan.steps), target.profile.max_steps or 0
    limits = [(size, limit, "characters"), (steps, at_most, "steps")]
    known = [one for one in limits if one[1]]
    return Line(
        what=f"{target.document} for {name}, {count:,} checkpoints",
        ours=f"{size:,} characters, {steps:,} steps",
        against=" and ".join(f"{n:,} {what}" for _, n, what in known) or "no limit known",
        ratio=max((found / n for found, n, _ in known), default=None),
        aim="≤ 1×" if known else "",
    )


def lines() -> list[Line]:
    with tempfile.TemporaryDirectory() as made:
        return [measure(n, count, Path(made)) for n in registry.names() for count in COUNTS]
