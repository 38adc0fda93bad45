"""Decides the document for Vertex AI Pipelines."""

from __future__ import annotations

from kitaru.wire.plan import Plan

from ..base import Emission, Wiring
from ..common import ir, keys
from .profile import MAX_NAME


def emit(plan: Plan, wiring: Wiring) -> Emission:
    """Return `pipeline.yaml` for a plan; raise UsageError when a name cannot stand in it."""
    return ir.emit(plan, wiring, longest_name=MAX_NAME, longest_key=keys.MAX_KEY)
