"""The target for Amazon SageMaker Pipelines."""
