"""The target for plain Kubernetes: one Job for each part of an execution between waits."""
