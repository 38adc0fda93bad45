"""Argo Workflows: a workflow template whose steps are pods and whose waits are suspended nodes."""
