"""Map nodes of a document to source lines, and source lines to nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.wire.plan import Block, Plan, Step
from kitaru.wire.structs import fields_of
from kitaru_targets.base import Emission

SCHEMA = 1


def make(plan: Plan, document: str, emission: Emission) -> dict[str, Any]:
    """Return the source map: the span and blocks of each step, the span of each group."""
    steps = {step.name: step for step in plan.steps}
    blocks = {block.name: block for block in plan.blocks}
    return {
        "schema": SCHEMA,
        "document": document,
        "flow": {"name": plan.flow, "file": plan.file, "line": plan.line},
        "nodes": {node: _node(steps[name], blocks) for node, name in emission.steps.items()},
        "groups": {node: {"span": fields_of(span)} for node, span in emission.groups.items()},
    }


def _node(step: Step, every: Mapping[str, Block]) -> dict[str, Any]:
    blocks = [every[name] for name in step.blocks]
    return {
        "step": step.name,
        "span": fields_of(step.span),
        "blocks": {block.name: fields_of(block.span) for block in blocks},
        "calls": [call for block in blocks for call in block.calls],
    }
