"""Map nodes of a document to source lines, and source lines to nodes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kitaru.wire.plan import Plan
from kitaru_targets.base import Emission

SCHEMA = 1


def make(plan: Plan, document: str, emission: Emission) -> dict[str, Any]:
    """Return the source map: the span and blocks of each step, the span of each group."""
    return {
        "schema": SCHEMA,
        "document": document,
        "flow": {"name": plan.flow, "file": plan.file, "line": plan.line},
        "nodes": {node: _node(plan, step) for node, step in emission.steps.items()},
        "groups": {node: {"span": asdict(span)} for node, span in emission.groups.items()},
    }


def _node(plan: Plan, name: str) -> dict[str, Any]:
    step = plan.step(name)
    blocks = [plan.block(block) for block in step.blocks]
    return {
        "step": name,
        "span": asdict(step.span),
        "blocks": {block.name: asdict(block.span) for block in blocks},
        "calls": [call for block in blocks for call in block.calls],
    }
