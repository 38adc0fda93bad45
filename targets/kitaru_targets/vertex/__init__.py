"""The target for Vertex AI Pipelines."""
