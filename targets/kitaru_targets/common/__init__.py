"""Decides what Kubeflow and Vertex share: the intermediate representation both of them run."""
