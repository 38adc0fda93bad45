"""Decides how a plan runs on Amazon SageMaker Pipelines."""
