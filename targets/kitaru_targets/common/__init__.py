"""Code that Kubeflow and Vertex share: the intermediate representation that both run."""
