"""This machine as a target: one process runs a deployed flow, from the store alone."""
