"""Dry runs of documents in the format of Kubeflow Pipelines."""

from kitaru_targets.kfp.dry_run import execute

__all__ = ["execute"]
