"""Validate that Kubeflow Pipelines runs a document as intended."""

from __future__ import annotations

from kitaru_targets.kfp import check
from kitaru_targets.kubeflow.profile import MAX_NAME

# The API server rejects larger uploads.
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    return check.document(text, longest_name=MAX_NAME, most_bytes=MAX_DOCUMENT_BYTES)
