"""The target for Kubeflow Pipelines 2."""
