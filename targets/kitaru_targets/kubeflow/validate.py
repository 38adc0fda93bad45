"""Validate that Kubeflow Pipelines runs a document as intended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kitaru_targets.kfp import check
from kitaru_targets.kubeflow import platform
from kitaru_targets.kubeflow.profile import MAX_NAME

# The API server rejects larger uploads.
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    return check.document(
        text, longest_name=MAX_NAME, most_bytes=MAX_DOCUMENT_BYTES, others=_others
    )


def _others(found: Sequence[dict[str, Any]], executors: Mapping[str, Any]) -> Iterator[str]:
    if len(found) > 1:
        yield "there is a third document"
    for one in found[:1]:
        yield from platform.problems(one, executors)
