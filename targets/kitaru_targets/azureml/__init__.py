"""Decides how a plan runs on Azure Machine Learning pipelines."""
