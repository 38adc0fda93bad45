"""The target for Azure Machine Learning pipelines."""
