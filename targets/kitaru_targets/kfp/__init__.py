"""Documents of Kubeflow Pipelines and Vertex AI Pipelines, which share one format."""
