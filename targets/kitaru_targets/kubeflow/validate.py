"""Validate that Kubeflow Pipelines runs a document as intended."""

from __future__ import annotations

from kitaru_targets.kfp import check
from kitaru_targets.kubeflow.profile import MAX_NAME

# The API server refuses larger uploads.
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024


def validate(text: str) -> list[str]:
    """Return what is wrong with a document, empty when nothing is."""
    return check.document(text, longest_name=MAX_NAME, most_bytes=MAX_DOCUMENT_BYTES)
