"""Decides how a plan runs on Vertex AI Pipelines."""
