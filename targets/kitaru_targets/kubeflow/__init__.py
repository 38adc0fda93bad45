"""Decides how a plan runs on Kubeflow Pipelines 2."""
